#!/bin/sh
# Finds a Python that the stack supports and hands over to setup_env.py.
# PYTHON=/path/to/python chooses another one than the first that fits.
here=$(dirname "$0")

if [ -n "$PYTHON" ]; then
    set -- "$PYTHON"
else
    set -- "$here/../.venv/bin/python" python3 python3.12 python3.11 python3.10
fi

for python; do
    if "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
        2>/dev/null; then
        exec "$python" "$here/setup_env.py"
    fi
done

name=${PYTHON:-python3}
found=$("$name" --version 2>/dev/null | tail -n 1)
echo "error: Python 3.10 to 3.12 is missing: $name is ${found:-not there};" \
    "install python3.11 or name one with PYTHON=/path/to/python3.11" >&2
exit 1
