#!/usr/bin/env bash
# Train and test the networks of the AudioMNIST study on recordings of spoken digits.
#
# Usage: ./train_test.sh [OPTION]... [NETWORK [TASK [SPLIT]]]
#        ./train_test.sh --demo
#        ./train_test.sh --paper [STUDY OPTION]...
#
# NETWORK is AlexNet, AudioNet or all; TASK is digit, gender, another task of the recordings' splits.json, or all;
# SPLIT is a number or all. Whatever is left out is all. Each run is rendered from models/, trained and tested on its
# last snapshot; then one table shows the accuracies beside the paper's, and RUNS/summary.csv has them. A tested run is
# not made again, an interrupted one continues from its last snapshot: after Ctrl-C, call the same command.
#
#   --data DIR          recordings: DIR/<speaker>/<digit>_<speaker>_<repetition>.wav (default: data/)
#   --preprocessed DIR  the networks' inputs, made from the recordings where missing (default: preprocessed_data/)
#   --runs DIR          prototxts, snapshots, logs and the summary (default: runs/)
#   --gpu ID | --cpu    the device (default: GPU 0 where the engine finds it, else the CPU)
#   --tf32              let the GPU round products to TF32: quicker, and no longer the numbers of float32; the log and
#                       the results say so, and runs of both kinds never mix (as CAFFE_TF32=1)
#   --max-iter N        training iterations (default: the solver's)
#   --snapshot N        iterations between snapshots (default: the solver's; does not change results)
#   --seed N            of initial weights, dropout and shuffling, and of the preprocessing if done now (default: 0)
#   --skip-invalid      preprocess without the defective recordings instead of stopping at them
#   --quick             the demo's solver, fillers and input scaling (models/*/demo_*.prototxt) in place of the paper's:
#                       shows in minutes what recordings can teach, and does not reproduce the paper
#   --demo              --quick on synthetic speakers, digit split 0, with pictures of relevance; everything in demo/
#   --paper             the whole study: all runs of both networks, then every table and figure of the paper and a page
#                       of results in results/; --paper --help lists its options (--jobs N, --gpu 0,1, --demo, ...)
#   --help              this text
#
# Environment: CAFFE  the engine, any command that behaves like the `caffe` tool (default: the project's own), for
#                     example CAFFE="tests/bvlc.sh caffe" for the original BVLC Caffe
# Exit status: 0 done, 1 something failed, 2 called wrongly, 130 interrupted.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ROOT
readonly CALLER="$PWD" # where relative paths begin
# shellcheck source=environment.sh
source "$ROOT/environment.sh"

readonly DEMO_REPETITIONS=6 # recordings of each digit by each of the 60 demo speakers
readonly DEMO_PICTURES=4    # test recordings that are explained for each network

DATA="" PREPROCESSED="" RUNS="" DEVICE="" DEMO="" QUICK="" SKIP_INVALID="" MAX_ITER="" SNAPSHOT="" SEED=""
SELECTION=() SELECTED_RUNS=""
ENGINE=()
DEVICE_ARGUMENTS=()
INTERRUPTED=""
CLEAR_LINE=""

usage() {
    sed -n '2,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

say() {
    echo "train_test.sh: $*" >&2
}

misused() {
    say "$* (--help shows the usage)"
    exit 2
}

fail() {
    say "$*"
    exit 1
}

absolute() {
    case "$1" in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$CALLER/$1" ;;
    esac
}

# require_number OPTION VALUE MINIMUM
require_number() {
    if ! [[ "$2" =~ ^[0-9]+$ ]] || ((10#$2 < $3)); then
        misused "$1 $2: a whole number of at least $3 was wanted"
    fi
}

parse_arguments() {
    local option value
    while (($#)); do
        option="$1"
        shift
        case "$option" in
            --data | --preprocessed | --runs | --gpu | --max-iter | --snapshot | --seed)
                (($#)) || misused "$option: a value was wanted"
                value="$1"
                shift
                ;;
            --*=*) # --option=value
                value="${option#*=}"
                set -- "${option%%=*}" "$value" "$@"
                continue
                ;;
            *) value="" ;;
        esac
        case "$option" in
            --data) DATA="$(absolute "$value")" ;;
            --preprocessed) PREPROCESSED="$(absolute "$value")" ;;
            --runs) RUNS="$(absolute "$value")" ;;
            --gpu) require_number "$option" "$value" 0 && DEVICE="$value" ;;
            --cpu) DEVICE=cpu ;;
            --tf32) export CAFFE_TF32=1 ;;
            --max-iter) require_number "$option" "$value" 1 && MAX_ITER="$value" ;;
            --snapshot) require_number "$option" "$value" 1 && SNAPSHOT="$value" ;;
            --seed) require_number "$option" "$value" 0 && SEED="$value" ;;
            --skip-invalid) SKIP_INVALID=yes ;;
            --quick) QUICK=yes ;;
            --demo) DEMO=yes QUICK=yes ;;
            --paper) misused "$option: it comes first, before the options of the study" ;;
            -h | --help)
                usage
                exit 0
                ;;
            -*) misused "$option: no such option" ;;
            *) SELECTION+=("$option") ;;
        esac
    done
    ((${#SELECTION[@]} <= 3)) || misused "${SELECTION[3]}: nothing more was wanted after network, task and split"
    if [[ -n "$DEMO" ]]; then
        : "${DATA:=$ROOT/demo/data}" "${PREPROCESSED:=$ROOT/demo/preprocessed}" "${RUNS:=$ROOT/demo/runs}"
        ((${#SELECTION[@]} > 0)) || SELECTION=(all)
        ((${#SELECTION[@]} > 1)) || SELECTION+=(digit)
        ((${#SELECTION[@]} > 2)) || SELECTION+=(0)
    fi
    : "${DATA:=$ROOT/data}" "${PREPROCESSED:=$ROOT/preprocessed_data}" "${RUNS:=$ROOT/runs}"
}

# Split CAFFE into words as a shell would (quotes protect spaces), a relative program path made absolute: the engine
# runs in the preprocessed folder, where the paths in the lists begin.
choose_engine() {
    local words name="${CAFFE:-$PYTHON -m caffe}"
    if [[ -z "${CAFFE:-}" ]]; then
        ENGINE=("${PYTHON_MODULE[@]}" caffe) # what lies in the preprocessed folder is data, whatever its name
    else
        words="$("$PYTHON" -c 'import shlex, sys; print("\n".join(shlex.split(sys.argv[1])))' "$CAFFE")" ||
            fail "CAFFE=$CAFFE: not a command line"
        mapfile -t ENGINE <<<"$words"
        [[ "${ENGINE[0]}" != */* ]] || ENGINE[0]="$(absolute "${ENGINE[0]}")"
        command -v "${ENGINE[0]}" >/dev/null || fail "CAFFE=$CAFFE: ${ENGINE[0]} not found; a Caffe command was wanted"
    fi
    case "$DEVICE" in
        cpu) ;;
        "") # ask the engine itself: an engine without GPU support has none, whatever the machine has
            if ("${ENGINE[@]}" device_query -gpu 0 || exit 1) >/dev/null 2>&1; then
                DEVICE_ARGUMENTS=(-gpu 0)
            fi
            ;;
        *) DEVICE_ARGUMENTS=(-gpu "$DEVICE") ;;
    esac
    say "engine: $name, ${DEVICE_ARGUMENTS[*]:-CPU}"
}

has_recordings() {
    [[ -d "$DATA" && -n "$(find "$DATA" -mindepth 2 -maxdepth 2 -name '*.wav' -print -quit)" ]]
}

# Make what is missing of the recordings (demo only) and of the networks' inputs, and set SELECTED_RUNS: one a line,
# network, task, split, and whether its inputs were there ("preprocessed" or "raw").
prepare_data() {
    local options=()
    if [[ -n "$DEMO" ]]; then
        "$PYTHON" -m audiomnist demo-corpus "$DATA" --repetitions "$DEMO_REPETITIONS" || fail "$DATA: no demo corpus made"
    fi
    if [[ ! -f "$PREPROCESSED/splits.json" ]] && ! has_recordings; then
        say "$DATA: no recordings found; <speaker>/<digit>_<speaker>_<repetition>.wav files were wanted. Three ways on:"
        echo "  1. fetch AudioMNIST, about 1 GB:        data/download.sh" >&2
        echo "  2. point at recordings you have:        ./train_test.sh --data FOLDER" >&2
        echo "  3. synthetic speakers, in some minutes: ./train_test.sh --demo" >&2
        exit 1
    fi
    SELECTED_RUNS="$("$PYTHON" -m audiomnist runs --data "$DATA" --preprocessed "$PREPROCESSED" "${SELECTION[@]}")" ||
        exit "$?"
    if [[ "$SELECTED_RUNS" == *raw* ]]; then
        has_recordings || fail "$PREPROCESSED: lists of the selected runs missing, and no recordings found in $DATA"
        [[ -z "$SEED" ]] || options+=(--seed "$SEED")
        [[ -z "$SKIP_INVALID" ]] || options+=(--skip-invalid)
        "$PYTHON" -m audiomnist validate "$DATA" >&2 || [[ -n "$SKIP_INVALID" ]] ||
            fail "$DATA: errors found (listed above; --skip-invalid leaves defective recordings out)"
        "$PYTHON" "$ROOT/preprocessing_data.py" -src "$DATA" -dst "$PREPROCESSED" "${options[@]}" >&2 ||
            fail "preprocessing of $DATA stopped (its messages are above; --skip-invalid leaves defective recordings out)"
    fi
}

# On a terminal the engine draws a progress line there (the log goes through a pipe), which other lines must clear.
show_progress() {
    if [[ -t 2 && -z "${CAFFE_PROGRESS:-}" ]] && : 2>/dev/null >/dev/tty; then
        export CAFFE_PROGRESS=/dev/tty
        CLEAR_LINE=$'\r\e[K'
    fi
}

# run_engine LOG ARGUMENT...: the engine with its log appended to LOG; the lines of progress are shown
run_engine() {
    local log="$1" status
    shift
    # Ctrl-C reaches every process of the pipeline: the engine writes a snapshot on it, and its readers must outlive it
    set +e
    # (the subshell's own exit keeps bash from reporting an engine that aborts, as the original does on every error)
    (cd "$PREPROCESSED" && "${ENGINE[@]}" "$@" "${DEVICE_ARGUMENTS[@]}" || exit "$?") 2>&1 |
        (
            trap '' INT
            tee -a "$log" | awk -v clear="$CLEAR_LINE" '/Iteration|net output|Snapshotting|\] (accuracy|loss) = / {
                sub(/^[^]]*\] */, clear "  "); print; fflush()
            }'
        ) >&2
    status="${PIPESTATUS[0]}"
    set -e
    return "$status"
}

# explain_failure RUN STEP STATUS LOG: say what failed, with the engine's own last words
explain_failure() {
    local fatal=""
    say "$1: $2 failed (exit status $3); the end of $4:"
    fatal="$(grep -a -E '^F[0-9]{4} ' "$4" | tail -n 1)" || true
    if [[ -n "$fatal" ]]; then
        echo "  $fatal" >&2
    else
        tail -n 5 "$4" | sed 's/^/  /' >&2
    fi
}

# render NETWORK TASK SPLIT RUN: make or check the run folder; prints state, test iterations and file, tab-separated
render() {
    local options=() engine="${CAFFE:-python -m caffe}"
    [[ "${CAFFE_TF32:-}" != 1 || ${#DEVICE_ARGUMENTS[@]} -eq 0 ]] || engine+=" (TF32)"
    [[ -z "$MAX_ITER" ]] || options+=(--max-iter "$MAX_ITER")
    [[ -z "$SNAPSHOT" ]] || options+=(--snapshot "$SNAPSHOT")
    [[ -z "$SEED" ]] || options+=(--seed "$SEED")
    [[ -z "$QUICK" ]] || options+=(--demo)
    "$PYTHON" -m audiomnist render "$1" "$2" "$3" --preprocessed "$PREPROCESSED" --run "$4" --engine "$engine" \
        "${options[@]}"
}

# train_and_test NETWORK TASK SPLIT: do what is still to do of one run; returns 1 when it could not be finished
train_and_test() {
    local name="$1_$2_$3" folder state iterations file line status arguments lock
    folder="$RUNS/$name"
    mkdir -p "$folder" || return 1
    if command -v flock >/dev/null; then
        exec {lock}>>"$folder/.lock" # appending: a link's target is not emptied
        flock --nonblock "$lock" || {
            say "$name: another process works on $folder"
            return 1
        }
    fi
    line="$(render "$1" "$2" "$3" "$folder")" || return 1
    IFS=$'\t' read -r state iterations file <<<"$line"
    if [[ "$state" == new || "$state" == started ]]; then
        arguments=(train "-solver=$folder/solver.prototxt")
        if [[ "$state" == started ]]; then
            arguments+=("-snapshot=$file")
            say "$name: training continues from $(basename "$file")"
        else
            say "$name: training"
        fi
        run_engine "$folder/train.log" "${arguments[@]}" || {
            status="$?"
            [[ -n "$INTERRUPTED" ]] || explain_failure "$name" training "$status" "$folder/train.log"
            return 1
        }
        line="$(render "$1" "$2" "$3" "$folder")" || return 1
        IFS=$'\t' read -r state iterations file <<<"$line"
        [[ -z "$INTERRUPTED" ]] || return 1
        if [[ "$state" != trained ]]; then
            say "$name: training ended early, without a snapshot of its last iteration; see $folder/train.log"
            return 1
        fi
    fi
    if [[ "$state" == trained ]]; then
        say "$name: testing $(basename "$file")"
        rm -f "$folder/test.log.partial"
        run_engine "$folder/test.log.partial" test "-model=$folder/test.prototxt" "-weights=$file" \
            "-iterations=$iterations" || {
            status="$?"
            [[ -n "$INTERRUPTED" ]] || explain_failure "$name" testing "$status" "$folder/test.log.partial"
            return 1
        }
        [[ -z "$INTERRUPTED" ]] || return 1
        mv "$folder/test.log.partial" "$folder/test.log"
    else
        say "$name: tested before"
    fi
}

# paper STUDY_OPTION...: the whole study, which calls this script back for each run
paper() {
    local extras=(study)
    [[ " $* " != *" --demo "* ]] || extras+=(demo)
    prepare_environment "${extras[@]}" || exit 1
    cd "$CALLER"
    exec "${PYTHON_MODULE[@]}" audiomnist study "$@"
}

# explain_examples NETWORK TASK SPLIT: pictures of relevance for some test recordings of a tested run
explain_examples() {
    local folder="$RUNS/$1_$2_$3" line weights listed k file
    line="$(render "$1" "$2" "$3" "$folder")" || return 1
    IFS=$'\t' read -r _ _ weights <<<"$line"
    mapfile -t listed <"$PREPROCESSED/$1_$2_$3_test.txt"
    mkdir -p "$folder/heatmaps" || return 1
    for ((k = 0; k < DEMO_PICTURES; k++)); do
        file="${listed[${#listed[@]} * (27 * k % 100) / 100]}" # in steps of 27 %: other speakers and other digits
        "$PYTHON" -m lrp --model "$folder/deploy.prototxt" --weights "$weights" --input "$PREPROCESSED/$file" \
            --output "$folder/heatmaps/$(basename "${file%.hdf5}").png" >&2 || return 1
    done
}

main() {
    local run network task split failed=() tested=() extras=()
    cd "$ROOT"
    if [[ "${1:-}" == --paper ]]; then
        shift
        paper "$@"
    fi
    parse_arguments "$@"
    [[ -z "$DEMO" ]] || extras=(demo)
    prepare_environment "${extras[@]}" || exit 1
    prepare_data
    choose_engine
    show_progress
    mkdir -p "$RUNS" || fail "$RUNS: cannot be made"
    trap 'INTERRUPTED=yes' INT
    while read -r network task split _ <&3; do
        if train_and_test "$network" "$task" "$split"; then
            tested+=("$network $task $split")
        else
            failed+=("${network}_${task}_$split")
        fi
        if [[ -n "$INTERRUPTED" ]]; then
            say "interrupted; the same command continues"
            exit 130
        fi
    done 3<<<"$SELECTED_RUNS"
    trap - INT
    if ((${#tested[@]})); then
        "$PYTHON" -m audiomnist summary "$RUNS" || failed+=("summary")
    fi
    if [[ -n "$DEMO" ]]; then
        for run in "${tested[@]}"; do
            read -r network task split <<<"$run"
            explain_examples "$network" "$task" "$split" || failed+=("pictures of ${network}_${task}_$split")
        done
        echo
        echo "recordings  $DATA"
        echo "inputs      $PREPROCESSED"
        echo "pictures    $RUNS/*/heatmaps"
    fi
    echo "runs        $RUNS"
    [[ ! -f "$RUNS/summary.csv" ]] || echo "summary     $RUNS/summary.csv"
    if ((${#failed[@]})); then
        say "not done: ${failed[*]}"
        exit 1
    fi
}

main "$@"
