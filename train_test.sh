#!/usr/bin/env bash
# Train and test the networks of the AudioMNIST study on recordings of spoken digits: prepares the environment and hands
# over to audiomnist/runs/train_test.py, which has the usage text, or with --paper first to audiomnist/study/study.py.
#
# Usage: ./train_test.sh --help

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ROOT
# shellcheck source=environment.sh
source "$ROOT/environment.sh"

main() {
    local command=train-test extras=()
    case "${1:-}" in
        -h | --help) # without an environment, which may have to be made first
            sed -n '/^USAGE = /,/^"""$/{/"""/!p}' "$ROOT/audiomnist/runs/train_test.py"
            exit 0
            ;;
        --paper)
            command=study extras=(study)
            shift
            ;;
    esac
    [[ " $* " != *" --demo "* ]] || extras+=(demo)
    prepare_environment "${extras[@]}" || exit 1
    exec "${PYTHON_MODULE[@]}" audiomnist "$command" "$@"
}

main "$@"
