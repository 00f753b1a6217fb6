#!/usr/bin/env bash
# Run the tests.
#
# Usage: tests/run.sh [--quick] [PYTEST ARGUMENT]...
#
# Prepares the environment (an active one that has everything, else .venv in the repository), lints Python and bash, and
# runs pytest with the given arguments; without any, all tests. --quick leaves out what is marked slow and the live
# comparisons with the original. Two workers share the files of tests, each with one thread, unless the arguments say how
# many (-n 0: none, -n 4) or ask for the terminal (-s, --pdb). Comparisons with the original BVLC Caffe run where it is
# installed (tests/bvlc.sh --install); where it is not, a line at the end says so. TESTS_LIMIT (seconds, default 3600)
# ends a run that does not end.
#
# Examples: tests/run.sh --quick
#           tests/run.sh tests/audiomnist/runs/test_models.py -k solver

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
# shellcheck source=environment.sh
source "$ROOT/environment.sh"

# The lint of everything that is tracked; bash files are found by name or by their first line.
lint() {
    local listed scripts shellcheck
    "$PYTHON" -m ruff check . || return 1
    "$PYTHON" -m ruff format --check . || return 1
    listed="$(git ls-files -- '*.sh' .ci/run 2>/dev/null)" ||
        listed="$(find . -path ./.venv -prune -o -name '*.sh' -print)" # no git, or no repository: a plain copy
    mapfile -t scripts <<<"$listed"
    shellcheck="$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')/shellcheck"
    "$shellcheck" --external-sources "${scripts[@]}"
}

# Two workers by files of tests (what a file shares is made once; signals and terminals stay with one process).
in_parallel() {
    local argument
    for argument in "$@"; do
        case "$argument" in
            -n* | --numprocesses* | --dist* | -s | --capture=no | --pdb | --trace | --collect-only | --co) return 1 ;;
        esac
    done
}

# pytest with a limit; what it started ends with it, and the status is that of pytest, or 124 after the limit.
run_pytest() {
    local limit="${TESTS_LIMIT:-3600}" status=0
    if [[ -t 0 ]]; then # timeout would take the terminal away from --pdb and Ctrl-C
        "$PYTHON" -m pytest "$@" || status=$?
    else
        timeout --signal=INT --kill-after=60 "$limit" "$PYTHON" -m pytest "$@" || status=$?
    fi
    ! ((status == 124 || status == 137)) ||
        echo "tests/run.sh: the tests did not end within $limit s: STOPPED, and red" >&2
    return "$status"
}

main() {
    local status=0 options=(--durations=15 --durations-min=1)
    case "${1:-}" in
        -h | --help)
            sed -n '2,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --quick)
            options+=(-m "not slow and not bvlc")
            shift
            ;;
    esac
    cd "$ROOT"
    prepare_environment dev || exit 1
    lint || status=1
    if in_parallel "$@"; then
        options+=(-n 2 --dist=loadscope --no-loadscope-reorder)
        export OMP_NUM_THREADS=1
    fi
    run_pytest "${options[@]}" "$@" || status=1
    tests/bvlc.sh --status >/dev/null 2>&1 ||
        echo "tests/run.sh: the original Caffe is not installed: NOTHING WAS COMPARED LIVE WITH IT (tests/bvlc.sh --install)" >&2
    return "$status"
}

main "$@"
