#!/usr/bin/env bash
# Producing to a real Apache Kafka that fails: brokers killed and restarted, leaders that move, answers that are lost on
# the way, a broker that stands still, a full disk. With idempotence nothing may be lost or doubled; without it the
# report must cover all doubt and nothing may be doubled.
#
#   tests/blackbox/kafka_faults.sh [ENGINE]
#   ROUNDS=20 SECURE_ROUNDS=10 tests/blackbox/kafka_faults.sh    seeded rounds over PLAINTEXT and over SASL_SSL: as many
#                                                                as the specification asks for; without, 3 and 3
set -euo pipefail
engine=$(realpath "${1:-./engine}")
cd "$(dirname "$0")/../.."
# shellcheck source=tests/blackbox/kafka/common.sh
. tests/blackbox/kafka/common.sh
# shellcheck source=tests/blackbox/common/namespaces.sh
. tests/blackbox/common/namespaces.sh
rounds=${ROUNDS:-3}
secure_rounds=${SECURE_ROUNDS:-3}
if [ "$rounds" -lt 20 ] || [ "$secure_rounds" -lt 10 ]; then
    echo "not checked: more than $rounds seeded rounds of faults over PLAINTEXT and $secure_rounds over SASL_SSL:" \
        'ROUNDS=20 SECURE_ROUNDS=10 tests/blackbox/kafka_faults.sh'
fi
alone=$work/alone
three=$work/three
clusters=("$alone" "$three")

if [ "$(id -u)" = 0 ]; then spaces=(-m); else spaces=(-rm); fi
need_namespaces "${spaces[@]}"
unshare "${spaces[@]}" bash tests/blackbox/kafka/full_disk.sh "$engine" || failed 'a full disk'

# One broker whose clients are all led through the proxy, and three that they reach directly.
coproc python3 tests/blackbox/kafka/cutter.py 2
pids+=("$COPROC_PID")
read -r -u "${COPROC[0]}" plain_port sasl_port
order() {
    local answer
    echo "$*" >&"${COPROC[1]}"
    read -r -u "${COPROC[0]}" answer
    echo "$answer"
}
export KAFKA_HEAP_OPTS='-Xms128m -Xmx384m'
alone_assignments=$(KAFKA_DIR=$alone scripts/kafka.sh start --property \
    "advertised.listeners=PLAINTEXT://127.0.0.1:$plain_port,SASL://127.0.0.1:$sasl_port")
three_assignments=$(KAFKA_DIR=$three scripts/kafka.sh start --brokers 3)
eval "$alone_assignments"
order route "$plain_port" "${KAFKA_BOOTSTRAP#*:}" >/dev/null
order route "$sasl_port" "${KAFKA_SASL_BOOTSTRAP#*:}" >/dev/null

# start NAME FLAG…: a run in the background that is under way when this returns.
start() {
    local name=$1
    shift
    : >"$work/$name.log"
    "$engine" --cores 0 --run-id "$name" --log-format json --report "$work/$name.json" --payload-size 1000 \
        --parallel 2 --batch-size 20000 --drain-timeout 90s "$@" >"$work/$name.out" 2>"$work/$name.log" &
    running=$!
    pids+=("$running")
    until grep -q '"event":"start"' "$work/$name.log"; do
        kill -0 $running 2>/dev/null || failed "$name did not start" "$work/$name.log"
        sleep 0.02
    done
}

# finished CODE NAME: the run in the background ends with CODE, or with one of CODE|CODE.
finished() {
    local status=0
    wait $running || status=$?
    # Its number may be another process's by the end.
    unset 'pids[-1]'
    [[ "|$1|" == *"|$status|"* ]] || failed "$2: exit code $status, not $1" "$work/$2.log"
}

# where NAME SECURE: target and access flags of a run, into `to`.
where() {
    if [ "$2" = 1 ]; then
        to=(--target "kafka://$KAFKA_SASL_BOOTSTRAP/$1" --kafka-config "$KAFKA_SASL_PROPERTIES")
    else
        to=(--target "kafka://$KAFKA_BOOTSTRAP/$1")
    fi
}

pause() {
    sleep "$(python3 -c "import random; print(random.Random($1).uniform(0.2, 1.5))")"
}

# there NAME PARTITIONS: records that the topic of a run's name has.
there() {
    local partition ends=()
    for ((partition = 0; partition < $2; partition++)); do ends+=(-t "$1:$partition:-1"); done
    kcat -Q -b "$KAFKA_BOOTSTRAP" "${ends[@]}" | awk '{ sum += $NF } END { print sum }'
}

# covered NAME PARTITIONS: what a run that sends nothing twice calls uncertain covers all doubt.
covered() {
    whole "$1" "$1"
    holds "$1" "t['records_produced'] <= $(there "$1" "$2") <= t['records_produced'] + t['records_uncertain']"
}

exactly_once() {
    holds "$1" 't["records_produced"] == t["records_offered"] - t["records_not_sent"] > 0' \
        't["records_failed"] == t["records_uncertain"] == 0' "${@:2}"
    whole "$1" "$1"
    counted "$1" "$1"
}

# Answers are lost: what was sent again the broker has already.
lose_answers() {
    local name=$1 seed=$2 lost
    where "$name" "$3"
    start "$name" "${to[@]}" --rate 2MB/s --duration 3s
    order on "$seed" >/dev/null
    sleep 2
    lost=$(order off)
    finished 0 "$name"
    [ "$lost" -gt 0 ] || failed "$name: no answer was lost"
    exactly_once "$name" 't["retries"] > 0'
}

# under_restart NAME SEED SECURE FLAG…: a run whose only broker dies and comes back. What fell due meanwhile is sent then:
# it goes on until all of its records are.
under_restart() {
    local name=$1 seed=$2
    where "$name" "$3"
    shift 3
    start "$name" "${to[@]}" --rate 2MB/s --records 6000 --catch-up 60s "$@"
    pause "$seed"
    scripts/kafka.sh kill 1
    scripts/kafka.sh restart 1
}

# That the broker was away shows in what waited for it, whether or not an answer was due just then.
come_back() {
    local name=$1
    under_restart "$@"
    finished 0 "$name"
    exactly_once "$name" 't["records_produced"] == 6000' 'response["max"] > 0.5'
}

# Without a producer id what may have arrived is not sent again. A killed broker's page cache outlives it: whatever it
# has acknowledged is there.
come_back_acknowledged() {
    local name=$1
    under_restart "$@" --acks 1 --idempotent off
    finished '0|1' "$name"
    holds "$name" 'r["confirmation"] == "target"' 't["records_failed"] == t["records_not_sent"] == 0' \
        'r["exit_code"] == (t["records_uncertain"] > 0)' 'response["max"] > 0.5'
    covered "$name" 2
}

# Who asks for no acknowledgement counts what the kernel took. A broker that dies takes along what it had not read of it,
# and one that is back but does not lead yet closes the connection with what is on its way: a burst of megabytes. Part of
# what came before stays.
come_back_unacknowledged() {
    local name=$1
    under_restart "$@" --acks 0 --idempotent off
    finished '0|1' "$name"
    holds "$name" 'r["confirmation"] == "kernel"' 't["records_failed"] == t["records_not_sent"] == 0' \
        'r["exit_code"] == (t["records_uncertain"] > 0)' 'response["max"] > 0.5'
    holds "$name" "0.1 * t['records_produced'] < $(there "$name" 2) <= t['records_produced'] + t['records_uncertain']"
}

# where_only BROKER NAME SECURE: as `where`, with no other broker in the list.
where_only() {
    local addresses list
    where "$2" "$3"
    list=${to[1]#kafka://}
    IFS=, read -ra addresses <<<"${list%/*}"
    to[1]="kafka://${addresses[$1 - 1]}/$2"
}

# One of three dies, the only one that the runs were told of; others lead on. The second run has no producer id: what may
# have arrived it calls uncertain and does not send again.
move_leaders() {
    local name=$1 seed=$2 victim=$(($2 / 3 % 3 + 1)) doubting=$1-doubting second
    where_only $victim "$doubting" "$3"
    start "$doubting" "${to[@]}" --rate 1MB/s --records 6000 --catch-up 60s --partitions 6 --idempotent off --poll adaptive
    second=$running
    where_only $victim "$name" "$3"
    start "$name" "${to[@]}" --rate 2MB/s --records 8000 --catch-up 60s --partitions 6
    pause "$seed"
    scripts/kafka.sh kill $victim
    finished 0 "$name"
    running=$second
    finished '0|1' "$doubting"
    # Until the victim is no longer one of the replicas in sync, nobody can acknowledge for all of them.
    exactly_once "$name" 't["records_produced"] == 8000' \
        't["retries"] > 0 or r["latency_seconds"]["service"]["max"] > 1'
    scripts/kafka.sh restart $victim
    holds "$doubting" 't["records_failed"] == t["records_not_sent"] == 0' \
        'r["exit_code"] == (t["records_uncertain"] > 0)' \
        't["records_uncertain"] > 0 or r["latency_seconds"]["service"]["max"] > 0.3'
    covered "$doubting" 6
}

# A broker that ends in order hands its partitions over while it lives, and says so to whoever still sends to it: until it
# has ended, however long that takes.
hand_over() {
    local name=$1 seed=$2 leaver=$(($2 % 3 + 1)) pid until
    where "$name" "$3"
    start "$name" "${to[@]}" --rate 2MB/s --duration inf --catch-up 60s --partitions 6
    pause "$seed"
    pid=$(<"$three/$leaver/pid")
    until=$((SECONDS + 60))
    kill -TERM "$pid"
    # What has ended and is not waited for has a number still, and no words.
    while grep -qzxF kafka.Kafka "/proc/$pid/cmdline" 2>/dev/null; do
        [ $SECONDS -lt $until ] || failed "broker $leaver does not end; it is process $pid" "$three/$leaver/server.log"
        sleep 0.05
    done
    kill -INT $running
    finished 0 "$name"
    exactly_once "$name" 't["retries"] > 0'
    scripts/kafka.sh restart $leaver
}

# each KIND SECURE SEED…
each() {
    local kind=$1 secure=$2 seed
    shift 2
    [ $# -gt 0 ] || failed "$kind, secure $secure: no round; ROUNDS and SECURE_ROUNDS are 3 at least"
    for seed in "$@"; do
        "$kind" "${kind//_/-}-$secure-$seed" "$seed" "$secure"
        [ -z "${VERBOSE:-}" ] || echo "$kind, secure $secure, seed $seed: $SECONDS s"
    done
}

# seeds KIND COUNT: those from 1 to COUNT that fall to one of three kinds.
seeds() {
    seq "$1" 3 "$2"
}

mapfile -t cuts < <(seeds 1 "$rounds")
mapfile -t secure_cuts < <(seeds 1 "$secure_rounds")
mapfile -t moves < <(seeds 2 "$rounds")
mapfile -t secure_moves < <(seeds 2 "$secure_rounds")
mapfile -t returns < <(seeds 3 "$rounds")
mapfile -t secure_returns < <(seeds 3 "$secure_rounds")

each lose_answers 0 "${cuts[@]}"
each lose_answers 1 "${secure_cuts[@]}"

# Without idempotence nothing is sent twice: what may have arrived is uncertain.
where doubt 0
start doubt "${to[@]}" --idempotent off --rate 2MB/s --duration 3s
order on 77 >/dev/null
sleep 2
[ "$(order off)" -gt 0 ] || failed 'doubt: no answer was lost'
finished 1 doubt
# What is known not to have been sent whole goes out again and does not fail.
holds doubt 't["records_failed"] == 0' 'errors["closed"] == t["records_uncertain"] > 0'
covered doubt 2

# A broker that stands still for half a second is seen as such by every record that fell due.
where still 0
start still "${to[@]}" --rate 1MB/s --duration 5s
sleep 1
kill -STOP "$(cat "$alone/1/pid")"
sleep 0.5
kill -CONT "$(cat "$alone/1/pid")"
finished 0 still
holds still '0.35 < response["p99"] < 3' 'response["max"] > 0.45' 'response["p50"] < 0.3'
exactly_once still

each come_back 0 "${returns[@]}"
each come_back 1 "${secure_returns[@]}"
each come_back_acknowledged 0 3
each come_back_unacknowledged 0 3
offsets_agree
: >"$work/counts"

eval "$three_assignments"
each move_leaders 0 "${moves[@]}"
each move_leaders 1 "${secure_moves[@]}"
each hand_over 0 1
offsets_agree
