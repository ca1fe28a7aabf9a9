#!/usr/bin/env bash
# What the black-box tests of producing to Kafka share; sourced with `engine` and `scratch` set, at the root of the project.

for tool in java mvn kcat openssl python3; do
    command -v "$tool" >/dev/null || { echo "$tool is missing; install it: sudo apt-get install default-jre-headless maven kcat openssl python3"; exit 1; }
done
# Java that starts quickly, on few processors.
export JAVA_TOOL_OPTIONS='-XX:TieredStopAtLevel=1 -XX:+UseSerialGC'

judge() {
    python3 tests/blackbox/kafka/judge.py "$@"
}

: >"${scratch:?}/counts"
: >"$scratch/rules"

failed() {
    printf '%s\n' "$1"
    [ -z "${2:-}" ] || tail -n 15 "$2"
    exit 1
}

# run CODE NAME FLAG…: a run named NAME (and $run_id, if that is set), with its report and log; it must exit with CODE.
run() {
    local code=$1 name=$2 status=0
    shift 2
    timeout 180 "${engine:?}" --cores 0 --run-id "${run_id:-$name}" --log-format json --report "$scratch/$name.json" "$@" \
        >"$scratch/$name.out" 2>"$scratch/$name.log" || status=$?
    [ "$status" = "$code" ] || failed "$name: exit code $status, not $code: $*" "$scratch/$name.log"
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
    judge report "$scratch/$1.json" "${@:2}" || failed "run $1" "$scratch/$1.log"
}

# whole TOPIC NAME…: the topic has all that the runs promised, once, and nothing else is damaged.
whole() {
    local topic=$1 said name promises=()
    shift
    for name in "$@"; do promises+=(--expect "$scratch/$name.json"); done
    said=$("$engine" verify "kafka://$KAFKA_BOOTSTRAP/$topic" "${promises[@]}" 2>&1) || failed "verify $topic: $said" "$scratch/$1.log"
    [[ $said == *'0 duplicates, 0 reordered, 0 corrupt'* ]] || failed "verify $topic: $said" "$scratch/$1.log"
}

# counted TOPIC NAME…: at the end the topic must have as many records as the runs produced.
counted() {
    python3 - "$scratch" "$@" >>"$scratch/counts" <<'PYTHON'
import json, sys
scratch, topic, *names = sys.argv[1:]
reports = [json.load(open(f"{scratch}/{name}.json", encoding="utf-8")) for name in names]
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

java_kafka() {
    java -cp "$KAFKA_CLASSPATH" -Dorg.slf4j.simpleLogger.defaultLogLevel=error "$@"
}

# By Kafka's own tool: each topic has as many records as our books say.
offsets_agree() {
    java_kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$KAFKA_BOOTSTRAP" --exclude-internal-topics >"$scratch/offsets"
    judge offsets "$scratch/counts" <"$scratch/offsets"
}
