# shellcheck shell=bash
# The Python environment of train_test.sh and tests/run.sh, which source this file.
#
# prepare_environment EXTRA... sets PYTHON to an interpreter that has the dependencies of pyproject.toml and those of the
# extras that are named. It is the active environment (VIRTUAL_ENV, CONDA_PREFIX or the python3 on PATH) where that has
# them all, and is left as it is; otherwise .venv in the repository, made from the pins in requirements.txt (for the
# extra dev also requirements-dev.txt and requirements-zennit.txt), with the project itself installed as editable.
# Messages go to stderr; the function returns 1 after saying what is missing.
#
# No Python that is started takes code from the folder it works in, which may be one of somebody's data: from Python
# 3.11 on PYTHONSAFEPATH sees to that. Python 3.10 does not know it, so work in the repository, and elsewhere start
# "${PYTHON_MODULE[@]}" NAME ARGUMENT..., which is `python -m NAME ARGUMENT...` without the current folder.

ENVIRONMENT_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ENVIRONMENT_ROOT
readonly ENVIRONMENT_VENV="$ENVIRONMENT_ROOT/.venv"
export PYTHONSAFEPATH=1
set -o pipefail # an installation that fails is seen behind the pipe that shows its progress

# environment_say TEXT: a line of progress or the reason of a failure
environment_say() {
    echo "environment: $*" >&2
}

# environment_satisfied PYTHON EXTRA...: has this interpreter everything that pyproject.toml asks for?
environment_satisfied() {
    local python="$1"
    shift
    "$python" "$ENVIRONMENT_ROOT/environment.py" "$@" >/dev/null 2>&1
}

# Print an interpreter that can make the environment: Python 3.10 or newer.
environment_base_python() {
    local name
    for name in python3 python3.12 python3.13 python3.11 python3.10 python3.14 python; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    environment_say "PATH: expected Python 3.10 or newer, got none"
    return 1
}

# environment_make_venv PYTHON: make .venv with pip in it
environment_make_venv() {
    local base="$1" log
    [[ -x "$ENVIRONMENT_VENV/bin/python" ]] && "$ENVIRONMENT_VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
    environment_say "making $ENVIRONMENT_VENV with $("$base" --version 2>&1)"
    rm -rf "$ENVIRONMENT_VENV"
    log="$("$base" -m venv "$ENVIRONMENT_VENV" 2>&1)" && return
    # some systems split Python: venv without ensurepip, pip and virtualenv each in a package of their own
    if command -v virtualenv >/dev/null && virtualenv --quiet --python "$base" "$ENVIRONMENT_VENV" >&2; then
        return
    fi
    rm -rf "$ENVIRONMENT_VENV"
    if "$base" -m pip --version >/dev/null 2>&1 && "$base" -m venv --without-pip "$ENVIRONMENT_VENV" >&2 &&
        "$base" -m pip --quiet --python "$ENVIRONMENT_VENV/bin/python" install pip >&2; then
        return
    fi
    rm -rf "$ENVIRONMENT_VENV"
    environment_say "$base can neither make a virtual environment nor has it pip: install its venv module" \
        "(Debian, Ubuntu: apt-get install python3-venv) or virtualenv; it said: ${log##*$'\n'}"
    return 1
}

# environment_install FILE: install one requirements file into .venv; a copy of the file marks it as done
environment_install() {
    local file="$1" marker log options=()
    marker="$ENVIRONMENT_VENV/installed-$(basename "$file")"
    cmp -s "$file" "$marker" && return
    ! grep -q '^# installed with --no-deps' "$file" || options=(--no-deps)
    environment_say "installing $(basename "$file") into $ENVIRONMENT_VENV (once; some minutes)"
    log="$ENVIRONMENT_VENV/install.log"
    if "$ENVIRONMENT_VENV/bin/python" -m pip --disable-pip-version-check install --no-input "${options[@]}" \
        --requirement "$file" \
        2>&1 | tee "$log" | awk '/^(Collecting|Downloading|Installing)/ { print "  " substr($0, 1, 110); fflush() }' >&2; then
        cp "$file" "$marker"
        return
    fi
    environment_say "$(basename "$file") could not be installed (see $log); pip's last words:"
    tail -n 3 "$log" | cut -c 1-300 | sed 's/^/  /' >&2
    return 1
}

# Install the project into .venv as editable, so that its commands (caffe, lrp, audiomnist) and packages are there for
# whoever activates it; a copy of pyproject.toml marks it as done.
environment_install_project() {
    local marker="$ENVIRONMENT_VENV/installed-pyproject.toml" log="$ENVIRONMENT_VENV/install.log"
    cmp -s "$ENVIRONMENT_ROOT/pyproject.toml" "$marker" && return
    "$ENVIRONMENT_VENV/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation \
        --editable "$ENVIRONMENT_ROOT" >"$log" 2>&1 && cp "$ENVIRONMENT_ROOT/pyproject.toml" "$marker" && return
    environment_say "the project could not be installed into $ENVIRONMENT_VENV (see $log); pip's last words:"
    tail -n 3 "$log" | cut -c 1-300 | sed 's/^/  /' >&2
    return 1
}

prepare_environment() {
    local pins=("$ENVIRONMENT_ROOT/requirements.txt")
    local base active file lock
    if [[ " $* " == *" dev "* ]]; then
        pins+=("$ENVIRONMENT_ROOT/requirements-dev.txt" "$ENVIRONMENT_ROOT/requirements-zennit.txt")
        set -- "$@" zennit
    fi
    PYTHON=""
    for active in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" python3; do
        if [[ -n "$active" ]] && command -v "$active" >/dev/null && environment_satisfied "$active" "$@"; then
            PYTHON="$(command -v "$active")"
            break
        fi
    done
    if [[ -z "$PYTHON" ]]; then
        if [[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]]; then
            environment_say "the active environment is not used:" \
                "$("${VIRTUAL_ENV:-$CONDA_PREFIX}/bin/python" "$ENVIRONMENT_ROOT/environment.py" "$@" 2>&1)"
        fi
        base="$(environment_base_python)" || return 1
        # one process at a time makes it (this file is the lock); a second one then finds it made
        exec {lock}<"$ENVIRONMENT_ROOT/environment.sh"
        ! command -v flock >/dev/null || flock "$lock"
        environment_make_venv "$base" || return 1
        for file in "${pins[@]}"; do
            environment_install "$file" || return 1
        done
        environment_install_project || return 1
        exec {lock}<&-
        PYTHON="$ENVIRONMENT_VENV/bin/python"
    fi
    # shellcheck disable=SC2034  # for the scripts that source this file
    PYTHON_MODULE=("$PYTHON" -c 'import sys; sys.path[:] = filter(None, sys.path); import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)')
    # the project's packages are importable from any working directory
    export PYTHONPATH="$ENVIRONMENT_ROOT${PYTHONPATH:+:$PYTHONPATH}"
}
