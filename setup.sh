#!/bin/sh
# Find a Python 3.11 or newer and let it set up .venv. PYTHON names one; else the usual names are
# tried in turn, the plain one first.
set -eu
cd "$(dirname "$0")"

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    if recent "$PYTHON"; then
        exec "$PYTHON" -u setup_environment.py
    fi
    found=$("$PYTHON" --version 2>&1 || true)
    echo "setup failed: PYTHON must be Python 3.11 or newer, got $PYTHON (${found:-it does not run})" >&2
    exit 1
fi

for python in python3 python3.13 python3.12 python3.11; do
    if recent "$python"; then
        exec "$python" -u setup_environment.py
    fi
done
found=$(python3 --version 2>/dev/null || echo "no python3")
echo "setup failed: Locus needs Python 3.11 or newer, found $found;" \
    "name another with: make setup PYTHON=/path/to/python3.11" >&2
exit 1
