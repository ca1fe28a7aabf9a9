#!/usr/bin/env bash
# scripts/run-many.sh: what its processes make is proved by the merged report; each has its own port; who cannot start
# ends the others; Ctrl-C of a terminal reaches each once; what all would write to one file is refused.
#
#   tests/blackbox/run_many.sh [ENGINE]
set -euo pipefail
engine=$(realpath "${1:-./engine}")
here=$(realpath "$(dirname "$0")")
cd "$(dirname "$0")/../.."
# shellcheck source=tests/blackbox/common/scratch.sh
. "$here/common/scratch.sh"
need 'python3' python3
unset "${!ENGINE_@}"

cpus=$(taskset -cp $$ | sed 's/.*: //')
many=(scripts/run-many.sh -n 2 -c "$cpus" -e "$engine")
# ends CODE NAME FLAGS…: a fleet of two that ends with this code.
ends() {
    local wanted=$1 name=$2 status=0
    shift 2
    "${many[@]}" -o "$work/$name" -- "$@" >"$work/$name.log" 2>&1 || status=$?
    [ "$status" = "$wanted" ] || fail "$name: exit code $status, not $wanted"
}
# says FILE WORDS: waits until they stand there.
says() {
    for _ in {1..400}; do
        if grep -qs "$2" "$work/$1"; then return; fi
        sleep 0.05
    done
    fail "$1 says nothing of '$2'"
}
# under_way NAME: both processes of the fleet run.
under_way() {
    local shard
    for shard in 0 1; do
        for _ in {1..400}; do
            if grep -qs '"event":"interval"' "$work/$1/shard.$shard.log"; then continue 2; fi
            sleep 0.05
        done
        fail "$1: shard $shard does not run"
    done
}
endless=(--target null --parallel 1 --rate 1MB/s --duration inf --stats-interval 100ms --log-format json)

echo '== the sum, proved by what was written'
ends 0 files --target "file:$work/data/" --parallel 2 --rate 4000001 --duration 1s --payload-size 500 --log-format json \
    --slo 'rate>=1MB/s'
grep -q "^run many-.*: 2 shards on cores $cpus, each at 2 MB/s, from .* to .*; see $work/files/shard" "$work/files.log" ||
    fail 'nobody says what is about to run'
tail -n 1 "$work/files.log" | grep -q "^report  *$work/files/merged.json$" || fail 'no summary at the end'
"$engine" verify "$work/data" --expect "$work/files/merged.json"
python3 - "$work/files" <<'PYTHON'
import json, sys
load = lambda name: json.load(open(f"{sys.argv[1]}/{name}.json", encoding="utf-8"))
parts, whole = [load("shard.0"), load("shard.1")], load("merged")
assert [one["id"] for one in whole["producers"]] == [0, 1, 2, 3], whole["producers"]
assert whole["pacing"]["target_bytes_per_second"] == 4000001, whole["pacing"]
assert whole["totals"]["records_produced"] == sum(part["totals"]["records_produced"] for part in parts) > 7000
assert not {one["core"] for one in parts[0]["producers"]} & {one["core"] for one in parts[1]["producers"]}
assert parts[0]["config"]["start_at"] == parts[1]["config"]["start_at"] is not None, "each started when it could"
assert [one["slo"][0]["threshold"] for one in [*parts, whole]] == [5e5, 5e5, 1e6], whole["slo"]
PYTHON

echo '== a threshold is missed by all together'
ends 4 slow --target null --parallel 1 --rate 1MB/s --duration 300ms --slo 'rate>=2MB/s'
grep -q '^slo .*missed: rate>=2MB/s' "$work/slow.log" || fail 'nobody says which threshold was missed'

echo '== a port for each; SIGTERM ends all in order'
# Two that follow each other, and are nobody's.
port=$(python3 -c 'import socket
while True:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            second.bind(("127.0.0.1", port + 1))
        except (OSError, OverflowError):
            continue
        print(port)
        break')
"${many[@]}" -o "$work/ports" -- "${endless[@]}" --metrics-addr "127.0.0.1:$port" >"$work/ports.log" 2>&1 &
launcher=$!
pids+=("$launcher")
under_way ports
for shard in 0 1; do
    ENGINE_METRICS_ADDR=127.0.0.1:$((port + shard)) deploy/healthcheck.sh || fail "shard $shard does not answer on its port"
done
kill -TERM "$launcher"
wait "$launcher" || fail "ended with $?"
[ -s "$work/ports/merged.json" ] || fail 'there is no sum'

echo '== one that cannot start ends the others'
python3 -c 'import socket, sys, time
held = socket.socket()
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(("127.0.0.1", int(sys.argv[1])))
held.listen()
print("held", flush=True)
time.sleep(600)' $((port + 1)) >"$work/held" &
pids+=($!)
says held .
ENGINE_METRICS_ADDR=127.0.0.1:$port ends 3 taken "${endless[@]}"
grep -q 'the others are told to end' "$work/taken.log" || fail 'nobody was told to end'
[ ! -e "$work/taken/shard.1.json" ] || fail 'shard 1 had its port after all'

echo '== a signal after that is the first, not the second'
python3 -c 'import socket, sys, time
silent = socket.socket()
silent.bind(("127.0.0.1", 0))
silent.listen()
print(silent.getsockname()[1], flush=True)
time.sleep(600)' >"$work/silent" &
pids+=($!)
says silent .
# It starts at once, and its drain lasts as long as it may; the one that cannot start comes once it has.
cat >"$work/late" <<LATE
#!/bin/sh
case "\$*" in
*--dry-run*) ;;
*"--shard 1/2"*) until grep -qs '"event":"start"' "$work/draining/shard.0.log"; do sleep 0.05; done ;;
esac
exec "$engine" "\$@"
LATE
chmod +x "$work/late"
now=$(date +%s)
ENGINE_METRICS_ADDR=127.0.0.1:$port "${many[@]}" -e "$work/late" -o "$work/draining" -- \
    --target "tcp://127.0.0.1:$(cat "$work/silent")" --parallel 1 --ring-size 4Mi --rate 1GB/s --duration inf \
    --drain-timeout 4s --start-at "$now" --log-format json >"$work/draining.log" 2>&1 &
launcher=$!
pids+=("$launcher")
says draining.log 'told to end'
sleep 0.5
kill -TERM "$launcher"
status=0
wait "$launcher" || status=$?
[ "$status" = 3 ] || fail "the signal after a failure: exit code $status, not 3"
[ -s "$work/draining/shard.0.json" ] || fail 'shard 0 was aborted in its drain'
grep -q "\"start_at\": \"$now\"" "$work/draining/shard.0.json" || fail 'the --start-at that was given did not count'

echo '== a signal while they are started reaches each'
cat >"$work/early.sh" <<'EARLY'
# Read by bash before a script: a signal just before the first process has a number.
case $0 in
*/run-many.sh) trap 'if [[ $BASH_COMMAND == "running[index]="* ]]; then trap - DEBUG; kill -TERM $$; fi' DEBUG ;;
esac
EARLY
status=0
BASH_ENV=$work/early.sh timeout 30 "${many[@]}" -o "$work/early" -- "${endless[@]}" >"$work/early.log" 2>&1 || status=$?
[ "$status" = 1 ] || fail "a signal while they are started: exit code $status, not 1"

echo '== without -c: the cores that one run would take'
printf '#!/bin/sh\necho "$@" >>"%s/asked-for"\nexec "%s" "$@"\n' "$work" "$engine" >"$work/engine"
chmod +x "$work/engine"
scripts/run-many.sh -n 1 -e "$work/engine" -o "$work/own-cores" -- --target null --parallel 1 --rate 1MB/s --duration 200ms \
    >"$work/own-cores.log" 2>&1 || fail own-cores
taken=$("$engine" run --target null --dry-run | python3 -c 'import json, sys
print(",".join(str(core["cpu"]) for core in json.load(sys.stdin)["cores"]))')
grep -qF -- "--cores $taken " "$work/asked-for" || fail "the cores are not $taken: $(cat "$work/asked-for")"

echo '== Ctrl-C'
timeout 120 python3 - "$work/asked" "${many[@]}" -o "$work/asked" -- "${endless[@]}" >"$work/asked.log" <<'PYTHON' || fail 'Ctrl-C'
import os, pty, signal, sys, time
folder, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(command[0], command)
def runs(shard):
    path = f"{folder}/shard.{shard}.log"
    return os.path.exists(path) and '"event":"interval"' in open(path, encoding="utf-8").read()
while not (runs(0) and runs(1)):
    time.sleep(0.05)
os.write(terminal, b"\x03")
try:
    while said := os.read(terminal, 4096):
        print(said.decode())
except OSError:  # all have left the terminal
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PYTHON
for name in shard.0 shard.1 merged; do [ -s "$work/asked/$name.json" ] || fail "there is no $name.json"; done

echo '== what is wrong is said before anything starts'
# refused WORD NAME FLAGS…
refused() {
    local word=$1
    shift
    ends 2 "$@"
    grep -q -e "$word" "$work/$1.log" || fail "$1 does not say $word"
    [ ! -e "$work/$1/shard.0.log" ] || fail "$1: something started"
}
refused '--rate' odd --target null --parallel 1 --rate odd
refused '--html' page "${endless[@]}" --html "$work/page.html"
ENGINE_HTML=$work/page.html refused '--html' variable "${endless[@]}"
printf 'html: %s\n' "$work/page.html" >"$work/settings.yaml"
refused '--html' file "${endless[@]}" --config "$work/settings.yaml"
refused 'no ports' ports_end "${endless[@]}" --metrics-addr 127.0.0.1:65535
refused 'set by this script' own "${endless[@]}" --report x.json
status=0
scripts/run-many.sh -n 2 -c "${cpus%%[-,]*}" -e "$engine" -o "$work/narrow" -- "${endless[@]}" 2>"$work/narrow.log" || status=$?
[ "$status" = 2 ] || fail "two processes on one core: exit code $status, not 2"
grep -q "needs 2 cores, one for each process, but -c '${cpus%%[-,]*}' names 1; start fewer: -n 1" "$work/narrow.log" ||
    fail 'it does not say how many cores it has'
if [ "$(nproc)" -ge 2 ]; then grep -q 'or name them all: -c ' "$work/narrow.log" || fail 'it does not say which cores there are'; fi
# Who names cores hears what the engine says of them, before the first process has started.
for words in '0,60000 3' '0,0 2' '3-1 2' 'all 2'; do
    read -r list wanted <<<"$words"
    status=0
    scripts/run-many.sh -n 1 -c "$list" -e "$engine" -o "$work/listed" -- "${endless[@]}" 2>"$work/listed.log" || status=$?
    [ "$status" = "$wanted" ] || fail "-c $list: exit code $status, not $wanted"
    grep -q -e '--cores' "$work/listed.log" || fail "-c $list: it does not say what is wrong with it"
    [ ! -e "$work/listed/shard.0.log" ] || fail "-c $list: something started"
done

echo '== odd names, and a report that is lost'
odd="$work/-a [b] * c"
scripts/run-many.sh -n 1 -c "${cpus%%[-,]*}" -e "$engine" -o "$odd" -- --target null --parallel 1 --rate 3rec/s \
    --duration 1s >"$work/odd.log" 2>&1 || fail 'odd names'
grep -q ': 1 shard on cores .*, each at 12.29 kB/s, ' "$work/odd.log" || fail 'one shard, and its rate'
[ -s "$odd/merged.json" ] || fail 'there is no sum in a folder with an odd name'
status=0
scripts/run-many.sh -n 1 -e "$engine" -o "$odd" -- --target null --parallel 1 >"$work/odd.log" 2>&1 || status=$?
[ "$status" = 2 ] || fail "a folder that holds reports: exit code $status, not 2"
cat >"$work/forgetful" <<FORGETFUL
#!/bin/sh
"$engine" "\$@" || exit
case "\$*" in *--dry-run*) ;; *"--shard 1/2"*) rm "$work/lost/shard.1.json" ;; esac
FORGETFUL
chmod +x "$work/forgetful"
status=0
scripts/run-many.sh -n 2 -c "$cpus" -e "$work/forgetful" -o "$work/lost" -- --target null --parallel 1 --rate 1MB/s \
    --duration 300ms >"$work/lost.log" 2>&1 || status=$?
[ "$status" = 1 ] || fail "a report that is lost: exit code $status, not 1"
grep -q '1 of 2 shards left no report' "$work/lost.log" || fail 'nobody misses the report'
