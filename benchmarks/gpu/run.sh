#!/usr/bin/env bash
# Check and measure asyncrl on a GPU, within ten minutes: parts that would begin later are left out.
#
#     benchmarks/gpu/run.sh RESULTS
#
# PYTHON (python3) needs torch with CUDA and this project's dependencies. Without a network, put wheels of what is missing
# (gymnasium, Farama-Notifications, ale-py) into a folder and name it: WHEELS=FOLDER benchmarks/gpu/run.sh RESULTS.
set -euo pipefail
results=${1:?where results go: benchmarks/gpu/run.sh RESULTS}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
site=$here/../..
if [ -n "${WHEELS:-}" ]; then
  packages=$(mktemp -d)
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$packages" "$WHEELS"/*.whl
  site=$site:$packages
fi
mkdir -p "$results"
PYTHONUNBUFFERED=1 PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$here/measure.py" "$results" "${@:2}"
