#!/bin/sh
# Set up .venv from requirements.lock, once: a stamp holds the digest of what was installed.
# Says in one line what is missing: Python, disk space or network.
set -eu
python=${PYTHON:-python3.11}
stamp=.venv/installed
digest=$(cat requirements.lock pyproject.toml workflow/setup.sh | sha256sum | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ] && exit 0

fail() { echo "setup: $*" >&2; exit 1; }
command -v "$python" >/dev/null || fail "$python not found; install Python 3.11 (apt-get install python3.11 python3.11-venv) or name one: make PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || fail "$python is not a working Python 3.11; name another: make PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python cannot make virtual environments; apt-get install python3.11-venv"
free=$(df -Pk . | awk 'NR==2 {print int($4 / 1048576)}')
[ "$free" -ge 8 ] || fail "$free GiB free on this disk, expected at least 8 (the environment takes 6)"

echo "setup: installing the environment into .venv (about three minutes, 6 GiB)" >&2
"$python" -m venv --clear .venv
log=.venv/install.log
.venv/bin/pip install --require-hashes --no-deps -r requirements.lock >"$log" 2>&1 || {
    grep -qiE "connection|resolve|timed out|network|proxy|no matching distribution" "$log" && reason="the package index cannot be reached or lacks a pinned package; check the network" || reason="pip failed"
    fail "$reason; its last line: $(tail -n 1 "$log") (all of it: $log)"
}
.venv/bin/pip install --no-deps --no-build-isolation -e . >>"$log" 2>&1 || fail "installing onetok failed; see $log"
echo "$digest" >"$stamp"
