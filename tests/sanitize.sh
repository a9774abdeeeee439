#!/usr/bin/env bash
# tests/sanitize.sh asan|bounds [arguments of pytest]: the tests on another build of the engine, in a copy of the tree.
#   asan      under AddressSanitizer and UndefinedBehaviorSanitizer; the first error ends the process, and fails the run
#   bounds    with every index of _core.pyx checked by Cython
# The engine without Python has `make -C src_c asan tsan valgrind`.
# PYTHON: one with '.[test]', by default that of .venv. FOLDER: for the copy and its build, which it then keeps.
set -euo pipefail
mode=${1:?asan or bounds}
shift
cd "$(dirname "$0")/.."
python=$(realpath -s "$(command -v "${PYTHON:-.venv/bin/python}")")
if [ -n "${FOLDER:-}" ]; then
    mkdir -p "$FOLDER"
    folder=$(realpath "$FOLDER")
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
git ls-files -co --exclude-standard -z | tar -c --null --ignore-failed-read -T - | tar -x -C "$folder"
cd "$folder"
export PYTHONPATH=$folder OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

if [ "$mode" = bounds ]; then
    NTKFAST_BOUNDSCHECK=1 "$python" setup.py -q build_ext --inplace
    "$python" -m pytest -p no:cacheprovider "$@"
elif [ "$mode" = asan ]; then
    NTKFAST_SANITIZE=1 "$python" setup.py -q build_ext --inplace
    without=(--ignore=tests/test_packaging.py --ignore=tests/test_typing.py) # compilers and mypy, nothing of the engine
    # With preloaded libraries, tools or emulators of their own; and `state` measures memory, which is kept from reuse.
    for row in allocations bits commits full_disk io_errors sanitizers state; do
        without+=("--deselect=tests/test_stress.py::test_promise[$row]")
    done
    rm -rf reports
    mkdir reports
    libraries=$(for name in asan ubsan stdc++; do "${CC:-gcc}" -print-file-name="lib$name.so"; done) # stdc++: whose
    # exceptions AddressSanitizer can only follow if it finds them when the process starts.  Leaks: CPython has its own.
    common=halt_on_error=1:log_path=$folder/reports/process
    # Both runtimes write where the one that starts last says. What is undefined goes there as an abort, with the stack.
    env LD_PRELOAD="${libraries//$'\n'/ }" PYTHONMALLOC=malloc UBSAN_OPTIONS="$common:abort_on_error=1" \
        ASAN_OPTIONS="$common:handle_abort=1:detect_leaks=0:allocator_may_return_null=1" \
        "$python" -m pytest -p no:cacheprovider "${without[@]}" "$@" || status=$?
    # also those of processes that the tests have started
    if [ -n "$(ls reports)" ]; then
        cat reports/*
        exit 1
    fi
    exit "${status:-0}"
else
    echo "expected asan or bounds, got $mode" >&2
    exit 2
fi
