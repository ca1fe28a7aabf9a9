#!/usr/bin/env bash
# What the black-box tests of producing to Kafka share; sourced with `engine` set, at the root of the project.

# shellcheck source=tests/blackbox/kafka/cluster.sh
. tests/blackbox/kafka/cluster.sh

judge() {
    python3 tests/blackbox/kafka/judge.py "$@"
}

: >"$work/counts"
: >"$work/rules"

failed() {
    printf '%s\n' "$1"
    [ -z "${2:-}" ] || tail -n 15 "$2"
    exit 1
}

# run CODE NAME FLAG…: a run named NAME (and $run_id, if that is set), with its report and log; it must exit with CODE.
run() {
    local code=$1 name=$2 status=0
    shift 2
    timeout 180 "${engine:?}" --cores 0 --run-id "${run_id:-$name}" --log-format json --report "$work/$name.json" "$@" \
        >"$work/$name.out" 2>"$work/$name.log" || status=$?
    [ "$status" = "$code" ] || failed "$name: exit code $status, not $code: $*" "$work/$name.log"
}

# refuse CODE TEXT FLAG…: a run that ends with CODE and says TEXT.
refuse() {
    local code=$1 text=$2 said status=0
    shift 2
    said=$(timeout 120 "$engine" --cores 0 "$@" 2>&1) || status=$?
    if [ "$status" != "$code" ] || [[ $said != *"$text"* ]]; then
        failed "$*"$'\n'"  exit code $status, not $code with '$text':"$'\n'"$said"
    fi
}

# holds NAME EXPRESSION…: of the report of run NAME.
holds() {
    judge report "$work/$1.json" "${@:2}" || failed "run $1" "$work/$1.log"
}

# whole TOPIC NAME…: the topic has all that the runs promised, once, and nothing else is damaged.
whole() {
    local topic=$1 said name promises=()
    shift
    for name in "$@"; do promises+=(--expect "$work/$name.json"); done
    said=$("$engine" verify "kafka://$KAFKA_BOOTSTRAP/$topic" "${promises[@]}" 2>&1) || failed "verify $topic: $said" "$work/$1.log"
    [[ $said == *'0 duplicates, 0 reordered, 0 corrupt'* ]] || failed "verify $topic: $said" "$work/$1.log"
}

# counted TOPIC NAME…: at the end the topic must have as many records as the runs produced.
counted() {
    python3 - "$work" "$@" >>"$work/counts" <<'PYTHON'
import json, sys
work, topic, *names = sys.argv[1:]
reports = [json.load(open(f"{work}/{name}.json", encoding="utf-8")) for name in names]
print(topic, sum(report["totals"]["records_produced"] for report in reports))
PYTHON
}

# produce NAME FLAG…: a run into the topic of its name that must go well, and be found there whole.
produce() {
    local name=$1
    shift
    run 0 "$name" --target "kafka://$KAFKA_BOOTSTRAP/$name" "$@"
    holds "$name" 't["records_produced"] == t["records_offered"] > 0'
    whole "$name" "$name"
    counted "$name" "$name"
}

# By Kafka's own tool: each topic has as many records as our books say.
offsets_agree() {
    java_kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$KAFKA_BOOTSTRAP" --exclude-internal-topics >"$work/offsets"
    judge offsets "$work/counts" <"$work/offsets"
}
