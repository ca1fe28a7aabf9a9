# shellcheck shell=bash
# Sourced by black-box scripts: a folder of their own in $work, and an end that leaves nothing running. What a script
# starts it adds to `pids`.

# Debian's users have no nginx in theirs.
PATH=$PATH:/usr/sbin:/sbin

# need 'PACKAGES' TOOL…: all of these tools, or the command that installs them.
need() {
    local packages=$1 tool
    shift
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "$tool is missing; install it: sudo apt-get install $packages"; exit 1; }
    done
}

# free_ports COUNT: so many ports that nobody has.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
PYTHON
}

work=$(mktemp -d)
pids=()
# Ends what this script started and nothing else.
end_started() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
}

clean_up() {
    end_started
    wait
    rm -rf "$work"
}
trap clean_up EXIT

# start_receiver NAME FLAG…: `engine receive` in the background, as $receiver; where it listens is in $address, and what
# it says in $work/NAME.log.
start_receiver() {
    local name=$1
    shift
    # Here before the first look at it.
    : >"$work/$name.address"
    "${engine:?}" receive "$@" >"$work/$name.address" 2>"$work/$name.log" &
    receiver=$!
    pids+=("$receiver")
    for _ in {1..400}; do
        address=$(sed -n 's/^listening on //p' "$work/$name.address")
        if [ -n "$address" ]; then return; fi
        kill -0 "$receiver" 2>/dev/null || fail 'the receiver did not start'
        sleep 0.05
    done
    fail 'the receiver does not listen'
}

fail() {
    echo "$1"
    tail -n 30 "$work"/*.log
    exit 1
}
