#!/usr/bin/env bash
# Producing to a real Apache Kafka of one broker: every setting that changes what arrives, judged by `engine verify` and
# by foreign software: GetOffsetShell, DumpLogSegments, the console consumer, and librdkafka with check.crcs.
#
#   tests/blackbox/kafka_produce.sh [ENGINE]
set -euo pipefail
engine=$(realpath "${1:-./engine}")
cd "$(dirname "$0")/../.."
# shellcheck source=tests/blackbox/kafka/common.sh
. tests/blackbox/kafka/common.sh
# Nobody stays for longer without saying again who he is.
assignments=$(scripts/kafka.sh start --property connections.max.reauth.ms=4000)
eval "$assignments"

rule() {
    printf '%s\n' "$*" >>"$work/rules"
}

# fields NAME FORMAT: of each message of a topic, by librdkafka, which checks every batch.
fields() {
    kcat -C -q -e -b "$KAFKA_BOOTSTRAP" -t "$1" -X check.crcs=true -f "$2"
}

# The specification's smoke: 1 Mbit/s, due at exactly its rate and sent but for what a busy machine holds up past the end,
# with somebody looking at the metrics, whose address is in the log: it is here before the first look at it.
: >"$work/smoke.log"
run 0 smoke --target "kafka://$KAFKA_BOOTSTRAP/smoke" --payload-size 512 --rate 125000 --duration 5s \
    --metrics-addr 127.0.0.1:0 --metrics-hold 60s --poll adaptive &
smoke=$!
judge metrics "$work/smoke.log" "$work/smoke.json"
wait $smoke
holds smoke '0 <= 512 * t["records_offered"] - 625000 < 512' 't["records_failed"] == t["records_uncertain"] == 0' \
    'r["pacing"]["achieved_ratio"] > 0.98' 'r["confirmation"] == "target"' '4.9 < r["elapsed_seconds"] < 8'
grep -q "up to 625 kB of records on the brokers' disks (1 replica)" "$work/smoke.log" || failed 'smoke: its size' "$work/smoke.log"
whole smoke smoke
counted smoke smoke

# A rate far below one batch: what is there goes after --linger, and no later.
small=(--payload-size 600 --records 3000 --parallel 2)
produce short --payload-size 200 --rate 10kB/s --records 150 --parallel 1 --linger 2ms
produce gathered --payload-size 200 --rate 100kB/s --records 1000 --parallel 1 --linger 200ms
# Ten at best, and one for each record: a busy broker or core holds up some of them, which then go together.
rule short 'len(batches) > 40'
rule gathered '5 < len(batches) < 40'
# As the README says: a batch has one time, its first record's.
[ "$(fields gathered '%T\n' | sort -u | wc -l)" -lt 40 ] || failed 'gathered: messages of a batch have times of their own'

for acks in 0 1 all; do produce "acks$acks" "${small[@]}" --acks "$acks" --idempotent off; done
holds acks0 'r["confirmation"] == "kernel"'
holds acks1 'r["confirmation"] == "target"'
rule acksall 'all(batch["producer"] == -1 for batch in batches)'
produce idempotent "${small[@]}" --acks all --batch-size 20000
rule idempotent 'all(batch["producer"] >= 0 for batch in batches) and len(batches) > 50'
refuse 2 '--acks' --target "kafka://$KAFKA_BOOTSTRAP/acks1" --acks 1 --idempotent on

for codec in none gzip snappy lz4 zstd; do
    produce "codec-$codec" "${small[@]}" --compressibility 0.8 --compression $codec --batch-size 100000
    rule "codec-$codec" "all(batch['codec'] == '$codec' for batch in batches)"
    [ $codec = none ] || holds "codec-$codec" 't["wire_bytes"] < 0.7 * t["bytes_produced"]'
done
holds codec-none 't["wire_bytes"] > t["bytes_produced"]'

# Keys, headers, weights.
produce keyless "${small[@]}"
produce keyed "${small[@]}" --key producer
produce cycled "${small[@]}" --key cycle:7
[ "$(fields keyless '%K\n' | sort -u)" = -1 ] || failed 'keyless: there are keys'
[ "$(fields keyed '%p %k\n' | sort -u | wc -l)" = 2 ] || failed 'keyed: not one key for each producer'
[ "$(fields cycled '%k\n' | sort | uniq -c | wc -l)" = 7 ] || failed 'cycled: not seven keys'
run 0 headers --target "kafka://$KAFKA_BOOTSTRAP/headers" "${small[@]}" --annotate headers
whole headers headers
counted headers headers
python3 - "$work/headers.json" <(fields headers '%h|%S\n') <<'PYTHON'
import json, sys
seen = set()
for line in open(sys.argv[2], encoding="utf-8"):
    headers, size = line.rstrip("\n").split("|")
    facts = dict(pair.split("=", 1) for pair in headers.split(","))
    names = {name.lower().replace("-", "_") for name in facts}
    assert {"run_id", "producer_id", "sequence", "timestamp_ns", "crc32c"} <= names, facts
    facts = {name.lower().replace("-", "_"): value for name, value in facts.items()}
    assert facts["run_id"] == "headers" and int(size) == 600, line
    seen.add((int(facts["producer_id"]), int(facts["sequence"])))
assert seen == {(producer["id"], at) for producer in json.load(open(sys.argv[1]))["producers"] for at in range(producer["last_sequence"] + 1)}
PYTHON
produce sampled --payload-size 600 --rate 60MB/s --mode sampled --weight 50 --records 2000 --parallel 1
holds sampled 't["logical_bytes_produced"] == 50 * t["bytes_produced"]'
[ "$(fields sampled '%h\n' | sort -u)" = weight=50 ] || failed 'sampled: not one weight'

# Shapes of records.
produce sizes --payload-size 100-9000 --records 1000 --parallel 2
produce templates --payload-template schemas/fixtures/generator --annotate headers --records 300 --parallel 2
run 0 events --target "kafka://$KAFKA_BOOTSTRAP/events" --payload-template schemas/fixtures/generator/header-event.json \
    --records 1000 --parallel 2
fields events '%s\n' | python3 -c 'import sys; sys.stdout.write(sys.stdin.read().replace("\n", " ").replace("} ", "}\n"))' |
    "$engine" verify --ids - --run-id events --expect "$work/events.json" || failed 'events: ids' "$work/events.log"
counted events events

# More partitions than producers, fewer, and a fleet of two that shares a topic.
produce many "${small[@]}" --partitions 7 --batch-size 50000
produce few --payload-size 600 --records 4000 --parallel 4 --partitions 2
for shard in 0 1; do
    run_id=fleet run 0 shard$shard --target "kafka://$KAFKA_BOOTSTRAP/fleet" "${small[@]}" --shard $shard/2 &
    shards[shard]=$!
done
for shard in 0 1; do wait "${shards[shard]}"; done
whole fleet shard0 shard1
counted fleet shard0 shard1
[ "$(fields fleet '%p\n' | sort -u | wc -l)" = 4 ] || failed 'fleet: not four partitions'

# Listeners.
produce plain "${small[@]}"
ca=(--tls-ca "$KAFKA_CA")
user=(--sasl-user "$KAFKA_SASL_USER" --sasl-password-file "$KAFKA_SASL_PASSWORD_FILE")
secure() {
    local name=$1 listener=$2
    shift 2
    run 0 "$name" --target "kafka://$listener/$name" "$@"
    holds "$name" 't["records_produced"] == t["records_offered"] > 0'
    whole "$name" "$name"
    counted "$name" "$name"
}
secure tls "$KAFKA_TLS_BOOTSTRAP" "${small[@]}" "${ca[@]}"
secure tls-large "$KAFKA_TLS_BOOTSTRAP" --payload-size 100000 --records 300 "${ca[@]}"
secure mtls "$KAFKA_MTLS_BOOTSTRAP" "${small[@]}" "${ca[@]}" --tls-cert "$KAFKA_CLIENT_CERT" --tls-key "$KAFKA_CLIENT_KEY"
for mechanism in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
    secure "sasl-$mechanism" "$KAFKA_SASL_BOOTSTRAP" "${small[@]}" "${ca[@]}" --sasl-mechanism $mechanism "${user[@]}"
done
secure oauth "$KAFKA_SASL_BOOTSTRAP" "${small[@]}" "${ca[@]}" --sasl-mechanism OAUTHBEARER --sasl-password-file "$KAFKA_SASL_TOKEN_FILE"
secure sasl-plaintext "$KAFKA_SASL_PLAINTEXT_BOOTSTRAP" "${small[@]}" --sasl-mechanism SCRAM-SHA-512 "${user[@]}"
secure file "$KAFKA_SASL_BOOTSTRAP" "${small[@]}" --kafka-config "$KAFKA_SASL_PROPERTIES" --compression lz4 --compressibility 0.5
# Without a producer id, what is unanswered when the broker closes would be uncertain.
for acks in 1 0; do
    secure "renewed-$acks" "$KAFKA_SASL_BOOTSTRAP" --payload-size 1000 --rate 2MB/s --records 20000 --acks $acks --idempotent off \
        "${ca[@]}" --sasl-mechanism SCRAM-SHA-512 "${user[@]}"
done

# A quota shows in the books and in a warning. It is an average of ten seconds, of which a run that begins has none: a
# tenth of a megabyte a second is a megabyte at once. Newer versions of Kafka have the tool in the first package.
quota() {
    java_kafka "$1" --bootstrap-server "$KAFKA_BOOTSTRAP" --alter --entity-type clients --entity-name slow \
        --add-config producer_byte_rate=100000 >"$work/alter.log" 2>&1
}
quota org.apache.kafka.tools.ConfigCommand || quota kafka.admin.ConfigCommand || failed 'no quota' "$work/alter.log"
produce throttled --payload-size 1000 --records 1250 --parallel 1 --batch-size 20000 --kafka-property client.id=slow
holds throttled 't["throttled_answers"] > 0' 't["throttled_seconds"] > 0'
grep -q throttle_time_ms "$work/throttled.log" || failed 'throttled: no warning' "$work/throttled.log"

# A batch that only the broker can measure, since it is compressed.
run 1 toolarge --target "kafka://$KAFKA_BOOTSTRAP/toolarge" --payload-size 1000 --records 4000 --parallel 1 --compression lz4 \
    --compressibility 0 --batch-size 2000000
holds toolarge 't["records_failed"] > 0' 't["records_produced"] == t["records_uncertain"] == 0'
for words in 'MESSAGE_TOO_LARGE (10)' max.message.bytes; do
    grep -qF "$words" "$work/toolarge.log" || failed "toolarge: nothing of $words" "$work/toolarge.log"
done

# What cannot work says so before it starts.
echo wrong >"$work/wrong"
refuse 5 'authentication' --target "kafka://$KAFKA_SASL_BOOTSTRAP/plain" "${ca[@]}" --sasl-mechanism SCRAM-SHA-512 \
    --sasl-user "$KAFKA_SASL_USER" --sasl-password-file "$work/wrong" "${small[@]}"
refuse 5 '--tls-cert' --target "kafka://$KAFKA_MTLS_BOOTSTRAP/plain" "${ca[@]}" "${small[@]}"
refuse 5 'not trusted' --target "kafka://$KAFKA_TLS_BOOTSTRAP/plain" --kafka-property security.protocol=SSL "${small[@]}"
refuse 5 'refused' --target kafka://127.0.0.1:1/plain "${small[@]}"
refuse 5 '--create-topic' --target "kafka://$KAFKA_BOOTSTRAP/nowhere" --create-topic off "${small[@]}"
refuse 2 '1048588' --target "kafka://$KAFKA_BOOTSTRAP/plain" --batch-size 2000000 "${small[@]}"
refuse 2 '2000000' --target "kafka://$KAFKA_BOOTSTRAP/plain" --batch-size 2000000 "${small[@]}"
refuse 2 '--partitions' --target "kafka://$KAFKA_BOOTSTRAP/plain" --partitions 9 "${small[@]}"

# Ctrl-C: what is in flight is drained, and the books are those of the topic.
: >"$work/stopped.log"
"$engine" --cores 0 --run-id stopped --parallel 2 --payload-size 600 --rate 5MB/s --duration inf --log-format json \
    --report "$work/stopped.json" --target "kafka://$KAFKA_BOOTSTRAP/stopped" >/dev/null 2>"$work/stopped.log" &
stopped=$!
pids+=("$stopped")
until grep -q '"event":"interval"' "$work/stopped.log"; do
    kill -0 $stopped 2>/dev/null || failed 'Ctrl-C: the run did not start' "$work/stopped.log"
    sleep 0.05
done
kill -INT $stopped
wait $stopped || failed "Ctrl-C: exit code $?" "$work/stopped.log"
unset 'pids[-1]'
holds stopped 't["records_produced"] > 1000' 't["records_failed"] == t["records_uncertain"] == 0'
whole stopped stopped
counted stopped stopped

# Content by two foreign consumers, and every batch by the broker's own tool.
for topic in codec-none codec-zstd sizes; do
    fields $topic '%s' >"$work/kcat.bin"
    "$engine" verify - --expect "$work/$topic.json" <"$work/kcat.bin" || failed "$topic: librdkafka reads something else"
done
java_kafka org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$KAFKA_BOOTSTRAP" --topic codec-lz4 --from-beginning \
    --max-messages 3000 --timeout-ms 20000 --formatter-property line.separator= >"$work/java.bin" 2>"$work/java.log"
"$engine" verify - --expect "$work/codec-lz4.json" <"$work/java.bin" || failed 'the Java consumer reads something else' "$work/java.log"
offsets_agree
logs=$(printf '%s,' "$KAFKA_DIR"/1/data/[!_]*/*.log)
java_kafka org.apache.kafka.tools.DumpLogSegments --deep-iteration --skip-record-metadata --files "${logs%,}" >"$work/dump" 2>&1 ||
    failed 'DumpLogSegments' "$work/dump"
judge batches "$work/rules" <"$work/dump"

# The broker for calibration: Kafka's own producer, as it is by default (idempotent, acknowledged by all), asks for nothing
# that it does not speak, and Kafka's own books are the report's.
start_receiver receive --listen kafka://127.0.0.1:0 --report "$work/receive.json"
java_kafka org.apache.kafka.tools.ProducerPerformance --bootstrap-server "${address#kafka://}" --topic perf \
    --num-records 20000 --record-size 1000 --throughput -1 >"$work/perf.log" 2>&1 || failed 'ProducerPerformance' "$work/perf.log"
grep -q '^20000 records sent' "$work/perf.log" || failed 'ProducerPerformance: not all were sent' "$work/perf.log"
java_kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "${address#kafka://}" --topic perf >"$work/perf.offsets"
echo 'perf 20000' >"$work/perf.counts"
judge offsets "$work/perf.counts" <"$work/perf.offsets"
kill -INT "$receiver"
wait "$receiver" || failed "receive: exit code $?" "$work/receive.log"
python3 - "$work/receive.json" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1], encoding="utf-8"))
found = report["records_received"], report["malformed_requests"]
assert found == (20000, 0), f"records_received, malformed_requests: {found}"
PYTHON
