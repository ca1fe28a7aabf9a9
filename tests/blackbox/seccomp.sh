#!/usr/bin/env bash
# The engine under tuning/seccomp/engine.json, which lets io_uring through, and under what Docker's default profile lets
# through (seccomp/docker.json): with the first it uses io_uring; with the second, and with the first without io_uring,
# it says that it cannot and does the same with system calls. The filters are real ones, loaded through libseccomp, and
# what they refuse is refused.
#
#   tests/blackbox/seccomp.sh ENGINE
set -euo pipefail
engine=$(realpath "${1:?the path of the engine}")
cd "$(dirname "$0")/../.."
for tool in python3 jq unshare; do
    command -v "$tool" >/dev/null || { echo "$tool is missing; install it: sudo apt-get install python3 jq util-linux"; exit 1; }
done
python3 -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null || { echo 'libseccomp is missing; install it: sudo apt-get install libseccomp2'; exit 1; }

work=$(mktemp -d)
receiver=
trap '[ -z "$receiver" ] || kill "$receiver" 2>/dev/null || true; rm -rf "$work"' EXIT
profile=tuning/seccomp/engine.json

fail() {
    echo "$1"
    tail -n 20 "$work/log"
    exit 1
}

# under STATUS COMMAND…: below the profile, or with `without=vmsplice` below it without that.
under() {
    local wanted=$1 status=0 words=()
    shift
    [ -z "${without:-}" ] || words=(--without "$without")
    python3 tests/blackbox/seccomp/load.py "$profile" "${words[@]}" "$@" >"$work/log" 2>&1 || status=$?
    [ "$status" = "$wanted" ] || fail "'$*' ended with $status, not $wanted"
}

# uses BACK_END: the last sender, by its report and its log.
uses() {
    local io
    io=$(jq -r .config.io "$work/sent.json")
    [ "$io" = "$1" ] || fail "the report says io = $io, not $1"
    case $1 in
    uring) if grep -q 'io_uring cannot be used' "$work/log"; then fail 'io_uring is let through, and the engine does not use it'; fi ;;
    syscall) [ "$(grep -c 'io_uring cannot be used' "$work/log")" = 1 ] || fail 'it does not say once that io_uring cannot be used' ;;
    esac
}

# send_to SCHEME: to a receiver that checks every record, both below the profile; the report is $work/sent.json.
send_to() {
    local address='' words=() path=/in
    if [ "$1" = tcp ]; then path=; fi
    [ -z "${without:-}" ] || words=(--without "$without")
    : >"$work/heard"
    python3 tests/blackbox/seccomp/load.py "$profile" "${words[@]}" "$engine" receive --listen "$1://127.0.0.1:0" \
        --verify --once --report "$work/received.json" >"$work/heard" 2>"$work/receiver.log" &
    receiver=$!
    for _ in {1..400}; do
        address=$(sed -n 's/^listening on //p' "$work/heard")
        if [ -n "$address" ]; then break; fi
        kill -0 "$receiver" 2>/dev/null || { cat "$work/receiver.log"; fail "the $1 receiver did not start"; }
        sleep 0.05
    done
    under 0 "$engine" --target "${address/127.0.0.1/localhost}$path" --parallel 1 --bytes 8Mi --report "$work/sent.json" --log-format json
    wait "$receiver" || fail "the $1 receiver has found something"
    receiver=
    [ "$(jq .records_received "$work/received.json")" = "$(jq .totals.records_produced "$work/sent.json")" ] \
        || fail "$1: what was produced has not all been received"
    echo "$1: $(jq .totals.records_produced "$work/sent.json") records, $(jq .totals.lent_bytes "$work/sent.json") bytes lent"
}

# runs BACK_END: files and network targets, books kept and data proved, by that back end.
runs() {
    local folder=$work/$1 insists=()
    echo "under $profile"
    # What goes to the page cache, as on a tmpfs, gets system calls by itself.
    if [ "$1" = uring ]; then insists=(--io uring); fi
    under 0 "$engine" --target "file:$folder/" --parallel 2 --bytes 8Mi "${insists[@]}" --metrics-addr 127.0.0.1:0 --report "$folder.json" --log-format json
    under 0 "$engine" verify "$folder/" --expect "$folder.json"
    echo "$1: $(jq .totals.records_produced "$folder.json") records, proved"
    send_to tcp
    uses "$1"
    send_to http
    send_to kafka
    [ "$(jq .totals.lent_bytes "$work/sent.json")" -gt 0 ] || fail 'nothing was lent: vmsplice is let through'
}

# Binds no pages to a node of memory: fine wherever mbind is let through. Docker leaves it to CAP_SYS_NICE.
mbind='
import ctypes, errno, os
number = {"x86_64": 237, "aarch64": 235}[os.uname().machine]
outcome = ctypes.CDLL(None, use_errno=True).syscall(number, 0, 0, 0, 0, 0, 0)
raise SystemExit(outcome != 0 and ctypes.get_errno() == errno.EPERM)'

runs uring
if python3 -c "$mbind"; then
    under 0 python3 -c "$mbind"
else
    echo 'not checked: that the seccomp profile lets pages be bound to a node, which this host refuses without it'
fi
under 0 "$engine" --target null --records 1000
under 0 sh -c 'echo started | grep -q started'
# What a filter is there for: new namespaces, other kinds of sockets, mounts.
if unshare --user true 2>/dev/null; then
    under 1 unshare --user true
    grep -q 'Operation not permitted' "$work/log" || fail 'a new namespace was not refused by the filter'
else
    echo 'not checked: that the seccomp profile refuses new namespaces, which this host refuses without it'
fi
under 0 python3 -c '
import errno, socket
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
try:
    socket.socket(40, socket.SOCK_STREAM)  # AF_VSOCK, the way to the host of a virtual machine
except OSError as error:
    assert error.errno == errno.EPERM, error
else:
    raise SystemExit("AF_VSOCK was not refused")'
without=vmsplice
send_to kafka
[ "$(jq .totals.lent_bytes "$work/sent.json")" = 0 ] || fail 'something was lent without vmsplice'
without=io_uring
send_to tcp
uses syscall

profile=tests/blackbox/seccomp/docker.json without=
runs syscall
under 1 python3 -c "$mbind"
under 0 "$engine" --target null --records 1000
under 3 "$engine" --target "file:$work/insists/" --io uring --bytes 1Mi
grep -q 'mend:' "$work/log" || fail '--io uring does not say how to mend it'
[ ! -e "$work/insists" ] || fail 'a run that could not start has left a folder'
