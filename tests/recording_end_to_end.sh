#!/usr/bin/env bash
# A whole recording session as a person would do it: the window on a virtual screen, keys pressed, a virtual microphone
# into which eSpeak says every digit that is shown, kill -9 in the middle, continued, cut, preprocessed.
#
# Usage: tests/recording_end_to_end.sh [--window tk|matplotlib] [FOLDER]
#
# FOLDER (default: a temporary one, removed at the end) keeps what comes out, with screenshots. PYTHON names the
# interpreter. Needs Xvfb, xdotool, ImageMagick, PulseAudio with ALSA's plugin for it, and PortAudio; as root on Debian
# or Ubuntu it installs them. Takes about two minutes.
# Exit status: 0 everything worked, 1 something did not or could not be tested, 2 called wrongly.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
readonly PYTHON="${PYTHON:-python3}"
readonly PACKAGES=(xvfb xdotool imagemagick pulseaudio pulseaudio-utils libasound2-plugins libportaudio2)
readonly COMMANDS=(Xvfb xdotool import pulseaudio pactl paplay pacat)
readonly REPETITIONS=2
readonly DISPLAY_NUMBER=":${DISPLAY_NUMBER:-87}"

WINDOW=tk FOLDER="" PIDS=()

say() {
    echo "recording_end_to_end.sh: $*" >&2
}

fail() {
    say "FAILED: $*"
    exit 1
}

require_tools() {
    local command missing=()
    for command in "${COMMANDS[@]}"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    if ((${#missing[@]} == 0)) && "$PYTHON" -c 'import sounddevice' 2>/dev/null; then
        return
    fi
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "installing ${PACKAGES[*]}"
        if ! { apt-get update -qq && apt-get install -y -qq "${PACKAGES[@]}"; } >&2; then
            fail "NOT TESTED: the packages cannot be installed"
        fi
    else
        fail "NOT TESTED: expected ${PACKAGES[*]} (as root: apt install ...), got none of ${missing[*]:-PortAudio}"
    fi
    "$PYTHON" -c 'import sounddevice' || fail "NOT TESTED: $PYTHON has no sounddevice"
}

cleanup() {
    local pid
    for pid in "${PIDS[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    if [[ -n "${TEMPORARY:-}" ]]; then
        rm -rf "$TEMPORARY"
    fi
}

# wait_for SECONDS WHAT COMMAND...   until the command succeeds
wait_for() {
    local seconds="$1" what="$2" end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" 2>/dev/null; do
        if ((SECONDS >= end)); then
            fail "no $what after $seconds s"
        fi
        sleep 0.2
    done
}

# start_sound   a PulseAudio of our own, whose only loudspeaker is heard by its only microphone
start_sound() {
    export XDG_RUNTIME_DIR="$FOLDER/runtime" HOME="$FOLDER/home" PULSE_SOURCE=loudspeaker.monitor
    unset PULSE_SERVER
    mkdir -p "$XDG_RUNTIME_DIR" "$HOME"
    chmod 700 "$XDG_RUNTIME_DIR"
    pulseaudio -n --daemonize=no --exit-idle-time=-1 --log-level=error -L module-native-protocol-unix \
        -L "module-null-sink sink_name=loudspeaker rate=48000 channels=1 format=s16le" 2>"$FOLDER/pulseaudio.log" &
    PIDS+=("$!")
    wait_for 10 "sound server" pactl info >/dev/null
    # without a sound that never ends the server sleeps, and loses the beginning of the next one
    pacat --playback --latency-msec=20 --rate=48000 --channels=1 --format=s16le /dev/zero 2>/dev/null &
    PIDS+=("$!")
}

start_screen() {
    Xvfb "$DISPLAY_NUMBER" -screen 0 1280x800x24 -nolisten tcp 2>"$FOLDER/xvfb.log" &
    PIDS+=("$!")
    export DISPLAY="$DISPLAY_NUMBER"
    wait_for 10 "screen" xdotool getdisplaygeometry >/dev/null
}

start_recorder() {
    "$PYTHON" "$ROOT/recording_scripts/record.py" --recordings "$FOLDER/recordings" --device pulse --seed 1 \
        --window "$WINDOW" --markers "$FOLDER/markers" "$@" >>"$FOLDER/record.log" 2>&1 &
    RECORDER=$!
    PIDS+=("$RECORDER")
    wait_for 30 "window (see $FOLDER/record.log)" xdotool search --name "Spoken digits" >/dev/null
    sleep 1
}

press() {
    xdotool key --clearmodifiers "$@"
    sleep 0.3
}

answer() {
    xdotool type --delay 40 "$1"
    press Return
}

screenshot() {
    import -window root "$FOLDER/$1.png"
}

events() { # events NAME COUNT   are there that many in the log?
    local count
    count="$(cat "$FOLDER"/recordings/sessions/*/session.jsonl | grep -c "\"event\": \"$1\"")" || true
    ((count >= $2))
}

markers() { # markers COUNT   so many digits were shown
    local count
    count="$(wc -l <"$FOLDER/markers")"
    ((count >= $1))
}

session() {
    say "session: consent, level, test take"
    start_recorder --repetitions "$REPETITIONS"
    screenshot consent
    press y
    wait_for 5 consent events consent 1
    sleep 0.5
    screenshot level
    press Return # level
    press Return # begin the test take
    wait_for 20 "test take" markers 10
    sleep 3
    screenshot test
    press Return
    say "the first series, and kill -9 in the second"
    wait_for 20 "first series" markers 15
    screenshot series
    wait_for 20 "first take" events take 1
    wait_for 20 "second series" markers 24
    kill -9 "$RECORDER"
    wait "$RECORDER" 2>/dev/null || true
    events take 2 && fail "the take in progress was kept"

    say "continued: exactly the missing digits"
    start_recorder --continue --no-test
    wait_for 30 "second take" events take 2
    sleep 2.5
    screenshot question
    answer robot-1
    answer 1234
    sleep 0.3
    screenshot refused
    press BackSpace BackSpace BackSpace BackSpace
    answer 33
    answer male
    answer "eSpeak"
    answer no
    answer "nowhere"
    answer "virtual"
    sleep 0.3
    screenshot check
    press Return
    wait_for 5 metadata events speaker 1
    press Return
    wait_for 5 "end of the recorder" gone "$RECORDER"
    wait "$RECORDER" || fail "the recorder ended with status $? (see $FOLDER/record.log)"
    local folder=("$FOLDER"/recordings/sessions/*/takes)
    [[ "$(find "${folder[0]}" -name '*.wav' | wc -l)" == "$REPETITIONS" ]] || fail "takes: expected $REPETITIONS, got another number"
}

gone() {
    ! kill -0 "$1"
}

corpus() {
    local sessions=("$FOLDER"/recordings/sessions/*) rounds=0 takes
    say "cutting"
    until "$PYTHON" "$ROOT/recording_scripts/cut.py" "${sessions[0]}" --auto --ask-again >"$FOLDER/cut.log" \
        && grep -q ' 0 still to be recorded' "$FOLDER/cut.log"; do
        # a busy machine lets the robot stammer: what is doubtful is asked again, as a person would be
        cat "$FOLDER/cut.log" >&2
        ((rounds++ < 3)) || fail "not everything could be cut"
        takes="$(grep -c '"event": "take"' "${sessions[0]}/session.jsonl")"
        start_recorder --continue "$(basename "${sessions[0]}")" --no-test
        wait_for 30 "repeated take" events take "$((takes + 1))"
        sleep 3
        press Return
        wait_for 5 "end of the recorder" gone "$RECORDER"
    done
    "$PYTHON" "$ROOT/tests/robot_speaker.py" check "$FOLDER/words" "$FOLDER/recordings/corpus/robot-1" \
        || fail "wrong labels"
    say "validation and preprocessing"
    cd "$ROOT"
    "$PYTHON" -m audiomnist make-splits "$FOLDER/recordings/corpus" --force --make-splits 3 || fail "no splits"
    "$PYTHON" preprocessing_data.py -src "$FOLDER/recordings/corpus" -dst "$FOLDER/preprocessed" \
        || fail "the preprocessing rejects the corpus"
    local count
    count="$(find "$FOLDER/preprocessed/robot-1" -name '*.hdf5' | wc -l)"
    ((count == 2 * 10 * REPETITIONS)) || fail "inputs of the new speaker: expected $((2 * 10 * REPETITIONS)), got $count"
    "$PYTHON" -m audiomnist validate "$FOLDER/recordings/corpus" || fail "the corpus is not valid"
}

main() {
    while (($#)); do
        case "$1" in
            --window) WINDOW="${2:?}" && shift 2 ;;
            --help) sed -n '2,/^$/{s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;;
            -*) say "command line: expected --window or a folder, got $1" && exit 2 ;;
            *) FOLDER="$1" && shift ;;
        esac
    done
    trap cleanup EXIT
    require_tools
    if [[ -z "$FOLDER" ]]; then
        TEMPORARY="$(mktemp -d)"
        FOLDER="$TEMPORARY"
    fi
    mkdir -p "$FOLDER/words"
    FOLDER="$(cd "$FOLDER" && pwd)"
    "$PYTHON" "$ROOT/tests/robot_speaker.py" words "$FOLDER/words"
    (cd "$ROOT" && "$PYTHON" -m audiomnist demo-corpus "$FOLDER/recordings/corpus" --speakers 8 --repetitions 1)
    start_sound
    start_screen
    : >"$FOLDER/markers"
    "$PYTHON" "$ROOT/tests/robot_speaker.py" speak "$FOLDER/words" < <(tail -n +1 -f --pid=$$ "$FOLDER/markers") &
    PIDS+=("$!")
    sleep 1
    session
    corpus
    say "the sound card: what is played comes back, and a microphone that vanishes is told"
    "$PYTHON" "$ROOT/tests/robot_speaker.py" sound "$FOLDER" || fail "the captured sound"
    say "everything worked"
}

main "$@"
