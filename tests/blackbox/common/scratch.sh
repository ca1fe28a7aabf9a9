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

# free_ports COUNT: so many ports that nobody has, below those that the kernel gives to who asks for any.
free_ports() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
    top = int(limits.read().split()[0])
held = []
for port in random.sample(range(10000, top) if top > 12000 else range(62000, 65535), 2000):
    if len(held) == int(sys.argv[1]):
        break
    one = socket.socket()
    try:
        one.bind(("127.0.0.1", port))
    except OSError:
        continue
    held.append(one)
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
