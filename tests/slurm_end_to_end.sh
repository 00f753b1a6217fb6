#!/usr/bin/env bash
# The study on a real Slurm: munge, a controller and one node on this machine's loopback, a tiny corpus, slurm.sh; a
# training is killed in the middle, everything is submitted again, and nothing that was finished is trained twice.
#
# Usage: tests/slurm_end_to_end.sh [FOLDER]
#
# FOLDER (default: a temporary one, removed at the end) keeps what comes out. PYTHON names the interpreter (default:
# .venv's where there is one). Needs root
# and Debian's packages slurm-wlm and munge, which it installs where it can. Takes about two minutes on two cores.
# Exit status: 0 everything worked, 1 something did not, 2 called wrongly, 77 it could not be tested here.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
if [[ -z "${PYTHON:-}" ]]; then # as slurm.sh chooses
    PYTHON=python3
    [[ ! -x "$ROOT/.venv/bin/python" ]] || PYTHON="$ROOT/.venv/bin/python"
fi
export PYTHON
readonly COMMANDS=(munged slurmctld slurmd sbatch scancel squeue sinfo)
readonly UNTESTED=77
readonly ITERATIONS=16 SNAPSHOT=4

PIDS=() WORK=""

say() {
    echo "slurm_end_to_end.sh: $*" >&2
}

fail() {
    local log
    say "FAILED: $*"
    for log in "$WORK"/logs/*.log "$WORK"/slurmctld.log "$WORK"/slurmd.log; do
        [[ ! -f "$log" ]] || { say "the last lines of $(basename "$log"):" && tail -n 8 "$log" >&2; }
    done
    exit 1
}

untested() {
    say "NOT TESTED: $*"
    exit "$UNTESTED"
}

cleanup() {
    local pid
    # our own cluster's jobs, never another's
    [[ "${SLURM_CONF:-}" != "$WORK/slurm.conf" ]] || scancel --user=root 2>/dev/null || true
    for pid in "${PIDS[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait
    [[ -z "${TEMPORARY:-}" ]] || rm -rf "$TEMPORARY"
}

require_tools() {
    local command missing=()
    ((EUID == 0)) || untested "expected root, got $(id -un)"
    for command in "${COMMANDS[@]}"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || untested "expected Slurm and munge, got none of ${missing[*]}"
    say "installing slurm-wlm and munge"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >&2 ||
        untested "slurm-wlm and munge cannot be installed"
}

# within SECONDS WHAT COMMAND...: wait until the command succeeds
within() {
    local seconds="$1" what="$2" end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "$what: not within $seconds s"
        sleep 0.5
    done
}

# Two ports that nobody listens on.
free_ports() {
    "$PYTHON" -c 'import socket
open_ = [socket.socket() for _ in range(2)]
for one in open_:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in open_))'
}

start_cluster() {
    local node ports
    node="$(hostname -s)"
    read -r -a ports <<<"$(free_ports)"
    mkdir -p "$WORK"/{state,spool,munge,logs}
    chmod 755 "$WORK" "$WORK/munge"
    (umask 077 && head -c 1024 /dev/urandom >"$WORK/munge/key")
    munged --foreground --force --key-file="$WORK/munge/key" --socket="$WORK/munge/socket" --num-threads=2 \
        --pid-file="$WORK/munge/pid" --log-file="$WORK/munge/log" --seed-file="$WORK/munge/seed" 2>/dev/null &
    PIDS+=($!)
    within 10 "munge" test -S "$WORK/munge/socket"
    cat >"$WORK/slurm.conf" <<EOF
ClusterName=loopback
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$WORK/munge/socket
CredType=cred/munge
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd.pid
SlurmctldLogFile=$WORK/slurmctld.log
SlurmdLogFile=$WORK/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MinJobAge=300
KillWait=5
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF
    : >"$WORK/cgroup.conf"
    export SLURM_CONF="$WORK/slurm.conf"
    slurmctld -D 2>/dev/null &
    PIDS+=($!)
    slurmd -D -N "$node" 2>/dev/null &
    PIDS+=($!)
    within 60 "the node" bash -c 'sinfo --noheader --format=%t | grep -q idle'
}

# Twelve speakers, three digits, two takes; one split of the digits.
make_recordings() {
    PYTHONPATH="$ROOT:$ROOT/tests" "$PYTHON" - "$1" <<'EOF'
import sys
from small_corpus import make_corpus

names = [f"{k:02d}" for k in range(1, 13)]
fold = {"train": names[:8], "validate": names[8:10], "test": names[10:]}
speakers = {name: ("male", "female")[k % 2] for k, name in enumerate(names)}
make_corpus(sys.argv[1], speakers, repetitions=2, splits={"digit": [fold]})
EOF
}

# submit: give the study to Slurm; sets TRAIN and RESULTS, the numbers of the jobs
submit() {
    local said
    said="$(SLURM_LOGS="$WORK/logs" SBATCH_OPTIONS="--cpus-per-task=1" OMP_NUM_THREADS=1 \
        "$ROOT/slurm.sh" --data "$WORK/data" --preprocessed "$WORK/inputs" --runs "$WORK/runs" --output "$WORK/results" \
        --quick --cpu --max-iter "$ITERATIONS" --snapshot "$SNAPSHOT" --limit 1 --composite epsilon_plus)" ||
        fail "slurm.sh"
    TRAIN="$(awk '$1 == "train" { print $2 }' <<<"$said")"
    RESULTS="$(awk '$1 == "results" { print $2 }' <<<"$said")"
    say "submitted: $(tr '\n' ' ' <<<"$said")"
}

has_ended() {
    [[ -z "$(squeue --noheader --jobs="$1" --states=PENDING,RUNNING,COMPLETING 2>/dev/null)" ]]
}

trained() {
    [[ -s "$WORK/runs/$1/test.log" ]]
}

# how_often TEXT RUN: lines of its training's log with this text
how_often() {
    grep -c "$1" "$WORK/runs/$2/train.log"
}

main() {
    local run finished
    case "${1:-}" in
        -h | --help)
            sed -n '2,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        -*)
            say "FOLDER: expected a folder, got $1"
            exit 2
            ;;
    esac
    require_tools
    trap cleanup EXIT
    if [[ -n "${1:-}" ]]; then
        mkdir -p "$1"
        WORK="$(cd "$1" && pwd)"
    else
        TEMPORARY="$(mktemp -d)"
        WORK="$TEMPORARY"
    fi
    start_cluster
    make_recordings "$WORK/data"

    submit
    within 300 "AudioNet's first snapshot" test -s "$WORK/runs/AudioNet_digit_0/snapshots/AudioNet_iter_$SNAPSHOT.solverstate"
    scancel --signal=KILL --full "${TRAIN}_1" || fail "scancel"
    within 300 "the first submission" has_ended "$RESULTS"
    ! trained AudioNet_digit_0 || fail "AudioNet_digit_0: expected to be killed before its end, got a tested run"
    trained AlexNet_digit_0 || fail "AlexNet_digit_0: expected a tested run beside the killed one, got none"
    finished="$(sha256sum "$WORK"/runs/AlexNet_digit_0/{train,test}.log)"

    submit
    within 600 "the second submission" has_ended "$RESULTS"
    for run in AlexNet_digit_0 AudioNet_digit_0; do
        trained "$run" || fail "$run: expected a tested run, got none"
    done
    [[ "$finished" == "$(sha256sum "$WORK"/runs/AlexNet_digit_0/{train,test}.log)" ]] ||
        fail "AlexNet_digit_0: expected to be left alone, got another log"
    (($(how_often "Iteration 0, lr" AudioNet_digit_0) == 1)) || fail "AudioNet_digit_0: expected one beginning, got two"
    (($(how_often "Resuming from" AudioNet_digit_0) == 1)) || fail "AudioNet_digit_0: expected to resume, got no such line"
    [[ -s "$WORK/results/index.html" && -s "$WORK/results/table1/table1.csv" ]] || fail "results: expected a page, got none"
    say "passed: a killed training was continued, a finished one left alone, and the page was made"
}

main "$@"
