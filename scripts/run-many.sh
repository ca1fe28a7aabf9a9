#!/usr/bin/env bash
# One run by several processes on this host: each is a shard with its own cores; their reports become one.
#
#   scripts/run-many.sh [-n N] [-c CORES] [-o FOLDER] [-e ENGINE] -- FLAGS OF engine run
#
#   -n N        processes (2)
#   -c CORES    cores to share out, as taskset lists them (all that this process may use, but one)
#   -o FOLDER   where shard.I.json, shard.I.log and merged.json go; must not hold reports (./run-many)
#   -e ENGINE   the binary (./engine)
#
# --rate is the rate of all together. The flags of the run need --parallel, the producers of each process; --shard,
# --cores, --report and --run-id belong to this script (RUN_ID sets the id). Ctrl-C or SIGTERM ends all in order, a
# second one at once. The exit code is the worst: not started (2, 3, 5) before records lost (1) before an SLO missed (4).
set -euo pipefail

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

die() {
    printf 'run-many.sh: %s\n' "$1" >&2
    exit 2
}

count=2 cores='' folder=run-many engine=./engine
[ "${1:-}" != --help ] || { usage; exit 0; }
while getopts n:c:o:e:h option; do
    case $option in
    n) count=$OPTARG ;;
    c) cores=$OPTARG ;;
    o) folder=$OPTARG ;;
    e) engine=$OPTARG ;;
    h) usage; exit 0 ;;
    *) die 'see scripts/run-many.sh --help' ;;
    esac
done
shift $((OPTIND - 1))
[[ $count =~ ^[1-9][0-9]{0,3}$ ]] || die "-n '$count' is no number of processes, such as -n 4"
command -v "$engine" >/dev/null || die "there is no $engine; build it: scripts/build.sh"
for word in "$@"; do
    case $word in
    --shard* | --cores* | --report* | --run-id*) die "$word is set by this script; see --help" ;;
    esac
done
if compgen -G "$folder/shard.*.json" >/dev/null; then die "$folder holds reports already; name another: -o FOLDER"; fi
mkdir -p "$folder"

# numbers LIST: 0-2,5 as one number a line.
numbers() {
    local part
    for part in ${1//,/ }; do
        [[ $part =~ ^[0-9]+(-[0-9]+)?$ ]] || die "'$part' is no core or range of cores, such as -c 0-7"
        seq "${part%-*}" "${part#*-}"
    done
}

mapfile -t usable < <(numbers "${cores:-$(taskset -cp $$ | sed 's/.*: //')}")
if [ -z "$cores" ] && [ ${#usable[@]} -gt 1 ]; then usable=("${usable[@]:1}"); fi
[ ${#usable[@]} -ge "$count" ] || die "${#usable[@]} cores are too few for $count processes; -c names more, -n fewer"

run_id=${RUN_ID:-many-$(date -u +%Y%m%dT%H%M%S)-$$}
pids=()
# shellcheck disable=SC2317  # called by the traps
pass_on() {
    # A process that has ended already takes no signal.
    for pid in "${pids[@]}"; do kill -s "$1" "$pid" 2>/dev/null || true; done
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
# Each in a process group of its own, so that a terminal's Ctrl-C comes once: from here.
set -m
from=0
for ((index = 0; index < count; index++)); do
    to=$(((index + 1) * ${#usable[@]} / count))
    share=$(IFS=, && echo "${usable[*]:from:to-from}")
    from=$to
    "$engine" run "$@" --run-id "$run_id" --shard "$index/$count" --cores "$share" --report "$folder/shard.$index.json" \
        </dev/null >"$folder/shard.$index.out" 2>"$folder/shard.$index.log" &
    pids+=($!)
done

severity() {
    case $1 in 0) echo 0 ;; 4) echo 1 ;; 1) echo 2 ;; 5) echo 3 ;; 3) echo 4 ;; 2) echo 5 ;; *) echo 6 ;; esac
}

worst=0
for ((index = 0; index < count; index++)); do
    status=0
    # wait comes back early when a signal was passed on; the process then still drains.
    while true; do
        status=0
        wait "${pids[index]}" || status=$?
        kill -0 "${pids[index]}" 2>/dev/null || break
    done
    if [ $status -gt 128 ]; then wait "${pids[index]}" 2>/dev/null && status=0 || status=$?; fi
    if [ "$status" != 0 ]; then
        printf 'run-many.sh: shard %s/%s: exit code %s\n' "$index" "$count" "$status" >&2
        tail -n 5 "$folder/shard.$index.log" >&2
    fi
    if [ "$(severity "$status")" -gt "$(severity $worst)" ]; then worst=$status; fi
done

if compgen -G "$folder/shard.*.json" >/dev/null; then
    "$engine" merge "$folder"/shard.*.json --report "$folder/merged.json"
    printf 'run %s: %s\n' "$run_id" "$folder/merged.json"
fi
exit "$worst"
