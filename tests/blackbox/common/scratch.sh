# shellcheck shell=bash
# Sourced by black-box scripts: a folder of their own in $work, and an end that leaves nothing running. What a script
# starts it adds to `pids`.

# need 'PACKAGES' TOOL…: all of these tools, or the command that installs them.
need() {
    local packages=$1 tool
    shift
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "$tool is missing; install it: sudo apt-get install $packages"; exit 1; }
    done
}

work=$(mktemp -d)
pids=()
# Ends what this script started and nothing else.
clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap clean_up EXIT

fail() {
    echo "$1"
    tail -n 30 "$work"/*.log
    exit 1
}
