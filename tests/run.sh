#!/usr/bin/env bash
# Run the tests.
#
# Usage: tests/run.sh [PYTEST ARGUMENT]...
#
# Prepares the environment (an active one that has everything, else .venv in the repository), lints Python and bash, and
# runs pytest with the given arguments; without any, all tests. Comparisons with the original BVLC Caffe run where it is
# installed (tests/bvlc.sh --install); where it is not, a line at the end says so.
#
# Examples: tests/run.sh -m "not slow"
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

main() {
    case "${1:-}" in
        -h | --help)
            sed -n '2,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
    esac
    cd "$ROOT"
    prepare_environment dev || exit 1
    local status=0
    lint || status=1
    "$PYTHON" -m pytest "$@" || status=1
    tests/bvlc.sh --status >/dev/null 2>&1 ||
        echo "tests/run.sh: the original Caffe is not installed: NOTHING WAS COMPARED LIVE WITH IT (tests/bvlc.sh --install)" >&2
    return "$status"
}

main "$@"
