#!/bin/sh
# The figures of docs/anomaly.md anew: worlds, the rule held against Prometheus, pictures. About ten minutes; with `cost` as argument also what
# the rules cost a Prometheus, a quarter of an hour more.
set -eu
cd "$(dirname "$0")/../.."
venv=target/anomaly
if ! cmp -s scripts/anomaly/requirements.txt "$venv/installed.txt"; then
    echo 'anomaly: installing numpy and matplotlib into target/anomaly' >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/anomaly/requirements.txt
    cp scripts/anomaly/requirements.txt "$venv/installed.txt"
fi
python=$venv/bin/python
"$python" scripts/anomaly/report.py
"$python" scripts/anomaly/baselines.py
"$python" scripts/anomaly/behaviour.py
"$python" scripts/anomaly/validate.py
"$python" scripts/anomaly/pictures.py
if [ "${1:-}" = cost ]; then "$python" scripts/anomaly/cost.py; fi
