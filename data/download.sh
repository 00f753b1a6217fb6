#!/usr/bin/env bash
# Usage: data/download.sh [DIR]
#
# Fetches AudioMNIST's 30,000 recordings and their metadata into DIR (default: this folder), about 1 GB over the network
# and 3 GB of disk while it works. Only the data of the newest version are fetched, a speaker at a time: an interrupted
# download goes on where it stopped. Every file is checked against the hash that the repository has for it, then
# `audiomnist validate` looks at the whole.
#
# AUDIOMNIST_URL names another repository to fetch from. Needs git; validating needs this project's environment.
# Exit code: 0 fetched and whole, 1 failed, 2 misused.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
url="${AUDIOMNIST_URL:-https://github.com/soerenab/AudioMNIST.git}"
meta="audioMNIST_meta.txt"
needed_mb="${AUDIOMNIST_NEEDED_MB:-3000}"

fail() {
    echo "download.sh: $1" >&2
    exit 1
}

unreachable() {
    cat >&2 <<TEXT
download.sh: $url: expected a network connection to it, got none ($1). Without one:
  - train_test.sh --data FOLDER uses recordings that you have already,
  - train_test.sh --demo makes a corpus of synthetic speakers.
TEXT
    exit 1
}

repository() {
    git --git-dir="$store" --work-tree="$store/tree" "$@"
}

fetch_history() {
    local reason
    if [[ ! -d "$store" ]]; then
        git init --quiet --bare "$store.new"
        git --git-dir="$store.new" config core.bare false
        git --git-dir="$store.new" config core.autocrlf false
        git --git-dir="$store.new" remote add origin "$url"
        git --git-dir="$store.new" config remote.origin.promisor true
        git --git-dir="$store.new" config remote.origin.partialclonefilter blob:none
        mv "$store.new" "$store"
    fi
    mkdir -p "$store/tree"
    if ! reason="$(repository fetch --quiet --depth 1 --filter=blob:none origin HEAD 2>&1)"; then
        unreachable "${reason%%$'\n'*}"
    fi
}

# The files of data/$1 in the repository that the target lacks ("missing PATH") or has with other content ("other PATH").
compare() {
    local entry hash path listing
    listing="$(repository ls-tree -r FETCH_HEAD "data/$1")"
    while IFS=$'\t' read -r entry path; do
        hash="${entry##* }"
        path="${path#data/}"
        if [[ ! -e "$target/$path" ]]; then
            echo "missing $path"
        else
            echo "$hash $path" >&3
        fi
    done <<<"$listing" 3>"$store/there"
    cut -d' ' -f2- "$store/there" | sed "s#^#$target/#" | git hash-object --no-filters --stdin-paths |
        paste -d' ' - "$store/there" | awk '$1 != $2 {print "other " $3}'
}

fetch() {
    local name="$1" reason
    rm -rf "${store:?}/tree/data"
    # checkout asks for the missing contents of this path in one go
    if ! reason="$(repository checkout --quiet FETCH_HEAD -- "data/$name" 2>&1)"; then
        [[ "$reason" != *"No space left"* ]] || fail "$target: expected $needed_mb MB free on the disk, got a full one"
        unreachable "${reason##*$'\n'}"
    fi
    local path
    while read -r path; do # each appears whole, under its final name only, and overwrites nothing
        mkdir -p "$target/$(dirname "$path")"
        mv -n "$store/tree/data/$path" "$target/$path"
    done
}

main() {
    if [[ $# -gt 1 || "${1:-}" == -* ]]; then
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]] && exit 0
        exit 2
    fi
    target="${1:-$here}"
    command -v git >/dev/null || fail "git: expected it to be installed (apt-get install git, or your system's way), got none"
    mkdir -p "$target" || fail "$target: expected a folder that can be made, got none"
    target="$(cd "$target" && pwd)"
    store="$target/.audiomnist.git"

    local free_mb
    free_mb="$(df -Pm "$target" | awk 'NR == 2 {print $4}')"
    if ((free_mb < needed_mb)) && [[ ! -d "$store" ]]; then
        fail "$target: expected $needed_mb MB free on the disk, got $free_mb MB"
    fi

    echo "asking $url" >&2
    fetch_history
    local listing names name differences other number=0
    listing="$(repository ls-tree --name-only FETCH_HEAD data/)"
    mapfile -t names < <(sed -n -E "s#^data/([0-9]+|$meta)\$#\\1#p" <<<"$listing")
    ((${#names[@]} > 1)) || fail "$url: expected AudioMNIST's repository, got one without data/<speaker> folders"
    for name in "${names[@]}"; do
        number=$((number + 1))
        differences="$(compare "$name")"
        if [[ "$differences" == *"other "* ]]; then
            other="$(grep -m 1 '^other ' <<<"$differences")"
            fail "$target/${other#other }: expected the repository's file or none, got another (move it away)"
        elif [[ -z "$differences" ]]; then
            echo "[$number/${#names[@]}] $name is there" >&2
        else
            echo "[$number/${#names[@]}] $name ..." >&2
            fetch "$name" <<<"${differences//missing /}"
            [[ -z "$(compare "$name")" ]] || fail "$target/$name: expected the repository's hash, got another (try again)"
        fi
    done
    rm -rf "${store:?}"
    echo "$((${#names[@]} - 1)) speakers in $target, every file equal to the repository's"

    local python="${PYTHON:-python3}"
    if (cd "$here/.." && "$python" -c "import audiomnist.corpus.validate") 2>/dev/null; then
        (cd "$here/.." && "$python" -m audiomnist validate "$target" --corrections)
    else
        echo "not validated: $python lacks this project's requirements; then run: audiomnist validate $target" >&2
    fi
}

main "$@"
