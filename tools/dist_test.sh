#!/usr/bin/env bash
# One process per GPU, or per CPU share (gloo) where there is no GPU.
set -euo pipefail

CONFIG=${1:?usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]}
CHECKPOINT=${2:?checkpoint}
PROCESSES=${3:?number of processes}

exec python -m mmeffvit.cli.torchrun \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
