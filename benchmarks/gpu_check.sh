#!/usr/bin/env bash
# Check and measure the package on a GPU, with nothing but PyTorch, Triton and pytest installed:
#
#   benchmarks/gpu_check.sh --out results                             # all parts, 8 minutes
#   benchmarks/gpu_check.sh --out results --budget 240 --parts kernels figures
#   benchmarks/gpu_check.sh --out results --parts tune                # candidates of the kernels
#   TRITON_INTERPRET=1 benchmarks/gpu_check.sh --out /tmp/rehearsal --device cpu --quick
#
# Where mmengine is missing, it is taken from the wheels in .device/ (or $WHEELS). To make that
# folder on a machine with a network:
#
#   pip download --no-deps -d .device onedl-mmengine addict termcolor yapf platformdirs
#
# `python -m benchmarks.gpu --help` lists the options.
set -eu
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
if ! python3 -c 'import mmengine' 2>/dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
    "${WHEELS:-.device}"/*.whl
  PYTHONPATH="$PYTHONPATH:$site"
fi
python3 -m benchmarks.gpu "$@"
