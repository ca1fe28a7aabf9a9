#!/usr/bin/env bash
# One run by several processes on this host: each is a shard with its own cores; their reports become one.
#
#   scripts/run-many.sh [-n N] [-c CORES] [-o FOLDER] [-e ENGINE] -- FLAGS OF engine run
#
#   -n N        processes (2)
#   -c CORES    cores to share out, like 1-30 (those that one run would take: all but one or, where the kernel isolates
#               processors, these)
#   -o FOLDER   where shard.I.json, shard.I.log and merged.json go; must not hold reports (./run-many)
#   -e ENGINE   the binary (./engine)
#
# --rate is the rate of all together, and so are the rates of --slo. The flags of the run need --parallel, the producers
# of each process; --shard, --cores, --report and --run-id belong to this script (RUN_ID sets the id). With --metrics-addr
# process I serves on port PORT + I. A page of all is made afterwards, from merged.json: --html is refused.
#
# All begin together, a few seconds after they were launched, or at --start-at. What each says is in its log; here comes
# a line at the start and, at the end, the summary of all.
#
# If one cannot start, the others are told to end in order. Ctrl-C, SIGTERM or SIGHUP does so too, a second one ends all
# at once. The exit code is the worst: not started (2, 3, 5) before records lost (1) before an SLO missed by all together (4).
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
# No word of a command begins with a dash that way.
[[ $folder != -* ]] || folder=./$folder
shopt -s nullglob
reports=("$folder"/shard.*.json)
[ ${#reports[@]} = 0 ] || die "$folder holds reports already; name another: -o FOLDER"
mkdir -p "$folder" || die "-o '$folder' cannot be made; name another: -o FOLDER"

# The engine reads lists, and knows quotas and isolated processors. Whatever its settings are, they are not asked here.
usable=$(unset "${!ENGINE_@}" && "$engine" run --target null --ring-size 4Mi ${cores:+--cores "$cores"} --dry-run </dev/null)
mapfile -t usable < <(sed -n '/^  "cores": \[/,/^  \]/s/^      "cpu": \([0-9]*\),\{0,1\}$/\1/p' <<<"$usable")
named=$cores
[ -n "$cores" ] || cores=$(IFS=, && echo "${usable[*]}")
# too_few: what there is, and what can be asked for on this host.
too_few() {
    local have=${#usable[@]} all most advice
    all=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status) most=$(nproc)
    advice="start fewer: -n $have"
    if [ "$most" -ge "$count" ]; then
        advice+=", or name them all: -c $all"
    elif [ "$most" -gt "$have" ]; then
        advice+=", or -n $most -c $all"
    fi
    if [ -n "$named" ]; then
        die "-n $count needs $count cores, one for each process, but -c '$named' names $have; $advice"
    fi
    die "-n $count needs $count cores, one for each process, but a run takes $have here: '$cores' (one is left free); $advice"
}
[ ${#usable[@]} -ge "$count" ] || too_few

run_id=${RUN_ID:-many-$(date -u +%Y%m%dT%H%M%S)-$$}
shares=() from=0
for ((index = 0; index < count; index++)); do
    to=$(((index + 1) * ${#usable[@]} / count))
    shares+=("$(IFS=, && echo "${usable[*]:from:to-from}")")
    from=$to
done

# own_flags I: what process I has for itself, as `own`.
metrics='' start_at=''
own_flags() {
    own=(--run-id "$run_id" --shard "$1/$count" --cores "${shares[$1]}" --report "$folder/shard.$1.json")
    if [ -n "$start_at" ]; then own+=(--start-at "$start_at"); fi
    if [ -n "$metrics" ]; then own+=(--metrics-addr "${metrics%:*}:$((${metrics##*:} ? ${metrics##*:} + $1 : 0))"); fi
}

# What flags, variables and --config come to. What is wrong with them is told here, once, before anything has started.
own_flags 0
plan=$("$engine" run "$@" "${own[@]}" --dry-run </dev/null)
observed() { sed -n '/^  "observe": {/,/^  }/s/^    "'"$1"'": "\(.*\)",\{0,1\}$/\1/p' <<<"$plan"; }
page=$(observed html)
[ -z "$page" ] || die "all processes would write to --html $page; afterwards: $(printf '%q report %q --html %q' "$engine" "$folder/merged.json" "$page")"
metrics=$(observed metrics_addr)
[ "$((${metrics##*:} + count - 1))" -le 65535 ] || die "--metrics-addr $metrics leaves no ports for $count processes"
# It is given to each anew.
flags=()
while [ $# -gt 0 ]; do
    case $1 in
    --metrics-addr) shift ;;
    --metrics-addr=*) ;;
    *) flags+=("$1") ;;
    esac
    shift
done

# phases KEY: its value in each stage of a shard, warm-up included.
phases() { sed -n '/^  "phases": \[/,/^  \]/s/^ *"'"$1"'": \([^,]*\),\{0,1\}$/\1/p' <<<"$plan"; }
# rate_text BYTES: a rate as the engine prints it, `7.5 MB/s`.
rate_text() {
    LC_ALL=C awk -v rate="$1" 'BEGIN {
        split("k M G T", prefixes, " ")
        for (at = 0; rate >= 999.95 && at < 4; at++) rate /= 1000
        text = sprintf(rate >= 100 ? "%.1f" : "%.2f", rate)
        sub(/\.?0+$/, "", text)
        print text " " prefixes[at] "B/s"
    }'
}
# announce FROM: one line that says what is about to run. FROM is in Unix seconds.
announce() {
    local rate_bytes rate duration_ns rates='' until=$(($1 * 1000000000)) times shards=shards
    [ "$count" != 1 ] || shards=shard
    while read -r rate_bytes; do
        rate='full speed'
        if [ "$rate_bytes" != null ]; then rate=$(rate_text "$rate_bytes"); fi
        rates+="${rates:+, then }$rate"
    done < <(phases rate_bytes_per_second | uniq)
    while read -r duration_ns; do
        # No time ends it.
        if [ "$duration_ns" = null ]; then until=''; break; fi
        until=$((until + duration_ns))
    done < <(phases duration_ns)
    times="from $(date -d "@$1" '+%F %T')"
    if [ -n "$until" ]; then times+=" to $(date -d "@$((until / 1000000000))" '+%F %T') at the latest"; fi
    printf 'run %s: %s %s on cores %s, each at %s, %s; see %s\n' "$run_id" "$count" "$shards" "$cores" "$rates" \
        "$times" "$folder/shard.*.log" >&2
}
from=$(sed -n 's/^  "start_at_unix_ns": \([0-9]*\)[0-9]\{9\},\{0,1\}$/\1/p' <<<"$plan")
if [ -z "$from" ]; then
    # Time for all to get ready.
    start_at=$(($(date +%s) + 3 + count / 16)) from=$start_at
fi
announce "$from"

# By their numbers: those that have not ended.
running=()
told='' pending='' starting=1
# pass_on: what came in goes to all, once.
pass_on() {
    local pid signal=$pending
    pending=
    [ -n "$signal" ] || return 0
    # One that has just ended takes no signal.
    for pid in "${running[@]}"; do kill -s "$signal" "$pid" 2>/dev/null || true; done
}
# shellcheck disable=SC2317  # called by the traps
came() {
    # They are ending already: another one would abort them.
    if [ "$told" = failure ]; then told=$1; return 0; fi
    told=$1 pending=$1
    # One that was just started may have no number yet.
    [ -n "$starting" ] || pass_on
}
trap 'came INT' INT
trap 'came TERM' TERM
trap 'came HUP' HUP
# Each in a process group of its own, so that a terminal's Ctrl-C comes once: from here.
set -m
for ((index = 0; index < count; index++)); do
    [ -z "$told" ] || break
    own_flags "$index"
    "$engine" run "${flags[@]}" "${own[@]}" </dev/null >"$folder/shard.$index.out" 2>"$folder/shard.$index.log" &
    running[index]=$!
done
set +m
starting=
pass_on

severity() {
    case $1 in 0) echo 0 ;; 4) echo 1 ;; 1) echo 2 ;; 5) echo 3 ;; 3) echo 4 ;; *) echo 5 ;; esac
}
# note CODE: the worst is kept.
worst=0
note() {
    if [ "$(severity "$1")" -gt "$(severity "$worst")" ]; then worst=$1; fi
}

# ended I STATUS
missed=0
ended() {
    if [ "$2" = 0 ]; then return; fi
    printf 'run-many.sh: shard %s/%s: exit code %s\n' "$1" "$count" "$2" >&2
    tail -n 5 "$folder/shard.$1.log" >&2
    case $2 in
    4) missed=4 ;;
    2 | 3 | 5)
        note "$2"
        # Without it the rest is not the run that was asked for. Who was told before is not to be told twice.
        if [ -z "$told" ] && [ ${#running[@]} -gt 0 ]; then
            told=failure pending=TERM
            printf 'run-many.sh: the others are told to end\n' >&2
            pass_on
        fi
        ;;
    # A signal that ended it, too.
    *) note 1 ;;
    esac
}

if [ ${#running[@]} -lt "$count" ]; then note 1; fi
while [ ${#running[@]} -gt 0 ]; do
    # In the background, so that a signal is passed on at once.
    sleep 0.5 >/dev/null 2>&1 &
    wait $! || true
    for index in "${!running[@]}"; do
        if kill -0 "${running[index]}" 2>/dev/null; then continue; fi
        status=0
        wait "${running[index]}" || status=$?
        unset "running[index]"
        ended "$index" "$status"
    done
done

reports=("$folder"/shard.*.json)
if [ ${#reports[@]} -lt "$count" ] && [ "$worst" = 0 ]; then
    printf 'run-many.sh: %s of %s shards left no report\n' $((count - ${#reports[@]})) "$count" >&2
    note 1
fi
if [ ${#reports[@]} -gt 0 ]; then
    if "$engine" merge "${reports[@]}" --report "$folder/merged.json"; then
        # All together are held to the thresholds, whatever the parts said of theirs.
        missed=$(sed -n 's/^  "exit_code": \([0-9]\).*/\1/p' "$folder/merged.json")
        # The last word: what shards said was of their shares.
        "$engine" report "$folder/merged.json" || note 1
    else
        note $?
    fi
fi
note "$missed"
exit "$worst"
