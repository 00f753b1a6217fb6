#!/usr/bin/env bash
# The original BVLC Caffe 1.0 (CPU, OpenBLAS, Python 3.9) as an engine and as an oracle.
#
# Usage: tests/bvlc.sh caffe ARGUMENT...     the original command line tool, in the current folder
#        tests/bvlc.sh python3 ARGUMENT...   a Python that imports the original pycaffe
#        tests/bvlc.sh --install             install now (otherwise the first use does it)
#        tests/bvlc.sh --status              print where it is installed; exit status 1 when it is not
#
# Debian 11 is the last system that ships the original, so it lives in a Debian 11 root of about 1 GB that debootstrap
# makes in some minutes. Commands see this machine's files under their own absolute paths: each runs in a private mount
# namespace that ends with it, so no mount is left behind. Python runs isolated (-I): neither the current folder nor
# PYTHONPATH can put another package called caffe before the original; a script extends sys.path itself.
#
# Environment: BVLC_ROOT    the Debian root (default: ~/.cache/audiomnist/bvlc-caffe-1.0)
#              BVLC_MIRROR  the Debian mirror to install from (default: debootstrap's)
# Needs Linux, root (for chroot and mounts) and, to install, debootstrap (fetched with apt-get where that exists).

set -euo pipefail

readonly SCRIPT="${BASH_SOURCE[0]}"
readonly ROOT="${BVLC_ROOT:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/audiomnist/bvlc-caffe-1.0}"
# Top-level folders that belong to a system; the Debian root has its own. All others are this machine's.
readonly SYSTEM_FOLDERS=" bin boot etc lib lib32 lib64 libx32 lost+found run sbin usr "

fail() {
    echo "tests/bvlc.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^$/{s/^# \{0,1\}//;p}' "$SCRIPT"
}

installed() {
    [[ -x "$ROOT/usr/bin/caffe" && -e "$ROOT/usr/lib/python3/dist-packages/caffe/__init__.py" ]]
}

require_root() {
    ((EUID == 0)) || fail "user: expected root, which chroot and mount need (try sudo -E), got $(id -un)"
}

require_debootstrap() {
    command -v debootstrap >/dev/null && return
    command -v apt-get >/dev/null || fail "debootstrap: expected it, or apt-get to install it, got neither"
    echo "tests/bvlc.sh: installing debootstrap" >&2
    { apt-get update && apt-get install --yes --no-install-recommends debootstrap debian-archive-keyring; } >&2 \
        || fail "apt-get could not install debootstrap (its messages are above)"
}

# Make the root under another name first: what is at $ROOT is complete.
install_root() {
    require_root
    mkdir -p "$(dirname "$ROOT")" || fail "$(dirname "$ROOT") cannot be made"
    local partial="$ROOT.partial" mirror=()
    [[ -z "${BVLC_MIRROR:-}" ]] || mirror=("$BVLC_MIRROR")
    exec {lock}>"$ROOT.lock"
    flock "$lock" # another process may be installing; then there is nothing left to do
    installed && return
    require_debootstrap
    echo "tests/bvlc.sh: installing Debian 11 with caffe into $ROOT (about 1 GB, some minutes)" >&2
    rm -rf "$partial"
    if ! debootstrap --variant=minbase --include=caffe,python3-caffe bullseye "$partial" "${mirror[@]}" >&2; then
        rm -rf "$partial"
        fail "debootstrap could not install Debian 11 (its messages are above; network and free disk space are needed;" \
            "BVLC_MIRROR can name another mirror, such as Debian's archive)"
    fi
    rm -rf "$ROOT"
    mv "$partial" "$ROOT"
    flock --unlock "$lock"
    installed || fail "$ROOT: expected BVLC Caffe 1.0 after installation, got no caffe"
}

# Runs in the private mount namespace: show this machine's folders in the root, then become the command.
enter() {
    local folder name
    for folder in /*/; do
        name="${folder//\//}"
        [[ "$SYSTEM_FOLDERS" == *" $name "* ]] && continue
        mkdir -p "$ROOT/$name"
        mount --rbind "/$name" "$ROOT/$name"
    done
    exec chroot "$ROOT" /usr/bin/env -u PYTHONPATH -u PYTHONHOME -u LD_LIBRARY_PATH -u LD_PRELOAD \
        --chdir="$PWD" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}

main() {
    case "${1:-}" in
        -h | --help) usage ;;
        --install) installed || install_root && echo "$ROOT" ;;
        --status)
            installed || fail "not installed in $ROOT (tests/bvlc.sh --install does it)"
            echo "$ROOT"
            ;;
        --enter) # not for users: the second half of a command
            shift
            enter "$@"
            ;;
        caffe | python3)
            installed || install_root
            require_root
            unshare --mount true 2>/dev/null \
                || fail "mounts: expected the right to make private ones (a container needs CAP_SYS_ADMIN), got none"
            local command=("$1")
            [[ "$1" == caffe ]] || command+=(-I)
            shift
            exec unshare --mount --propagation private -- "$BASH" "$SCRIPT" --enter "${command[@]}" "$@"
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
