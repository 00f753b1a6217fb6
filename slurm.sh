#!/usr/bin/env bash
# The whole study on a cluster with Slurm: one job that prepares the inputs, an array with one job for each run, and one
# job that makes the experiments and the page of results from whatever runs were finished.
#
# Usage: slurm.sh [STUDY OPTION]...          (audiomnist study --help lists the options)
#
# Example: SBATCH_OPTIONS="--partition=gpu --gres=gpu:1 --time=12:00:00" \
#              slurm.sh --data /scratch/AudioMNIST/data --runs /scratch/runs --output /scratch/results
#
# Relative folders are relative to the repository, on whatever machine a job runs.
#
# Environment: SBATCH_OPTIONS  given to every sbatch, split into words
#              SLURM_LOGS      folder of the jobs' logs (default: runs/slurm)
#              PYTHON          the interpreter that has everything (default: .venv's where there is one, else python3)
#
# Submitting the same again after a failure or a time limit continues: finished runs are not trained twice. Prints the
# numbers of the three jobs. Exit status: 0 submitted, 1 not, 2 called wrongly.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ROOT

say() {
    echo "slurm.sh: $*" >&2
}

# submit NAME LOG SBATCH_OPTION... -- STUDY_OPTION...: print the number of the job
submit() {
    local name="$1" log="$2" options=() words=()
    shift 2
    while [[ "$1" != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    read -r -a words <<<"${SBATCH_OPTIONS:-}"
    # the script on standard input: Slurm copies it, so nothing here may depend on where it lies
    sbatch --parsable --job-name="audiomnist-$name" --chdir="$ROOT" --output="$LOGS/$log.log" "${words[@]}" \
        "${options[@]}" <<EOF
#!/usr/bin/env bash
exec $(printf '%q ' "$PYTHON" -m audiomnist study "$@")${RUN_NUMBER}
EOF
}

main() {
    local runs count prepared trained made
    case "${1:-}" in
        -h | --help)
            sed -n '2,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
    esac
    if [[ -z "${PYTHON:-}" ]]; then
        PYTHON=python3
        [[ ! -x "$ROOT/.venv/bin/python" ]] || PYTHON="$ROOT/.venv/bin/python"
    fi
    command -v sbatch >/dev/null || {
        say "sbatch: expected a machine that submits to Slurm, got one without the command"
        exit 1
    }
    # relative folders would mean others on the compute nodes
    cd "$ROOT"
    runs="$("$PYTHON" -m audiomnist study --list "$@")" || exit "$?"
    count="$(wc -l <<<"$runs")"
    LOGS="${SLURM_LOGS:-$ROOT/runs/slurm}"
    mkdir -p "$LOGS"
    RUN_NUMBER=""
    prepared="$(submit prepare "%x_%j" -- "$@" --steps prepare)" || exit 1
    # shellcheck disable=SC2016  # for the shell of the job
    RUN_NUMBER='--run-number "$SLURM_ARRAY_TASK_ID"'
    trained="$(submit train "%x_%A_%a" --array="0-$((count - 1))" --dependency="afterok:$prepared" -- \
        "$@" --steps train)" || exit 1
    RUN_NUMBER=""
    made="$(submit results "%x_%j" --dependency="afterany:$trained" -- "$@" --steps experiments)" || exit 1
    printf 'prepare %s\ntrain   %s (%d runs)\nresults %s\n' "$prepared" "$trained" "$count" "$made"
}

main "$@"
