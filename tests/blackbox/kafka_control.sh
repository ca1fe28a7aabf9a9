#!/usr/bin/env bash
# `engine verify` of topics on a real Apache Kafka, filled by another client: every listener and SASL mechanism, what
# is wrong with a topic, wrong credentials, and a leader that is killed in the middle.
#
#   tests/blackbox/kafka_control.sh [ENGINE]
set -euo pipefail
engine=$(realpath "${1:-./engine}")
cd "$(dirname "$0")/../.."

# shellcheck source=tests/blackbox/kafka/cluster.sh
. tests/blackbox/kafka/cluster.sh

# expect CODE TEXT SOURCE FLAG…: what verify exits with and says.
expect() {
    local code=$1 text=$2 said status=0
    shift 2
    said=$("$engine" verify "$@" 2>&1) || status=$?
    if [ "$status" != "$code" ] || [[ $said != *"$text"* ]]; then
        printf 'verify %s\n  exit code %s, not %s with "%s":\n%s\n' "$*" "$status" "$code" "$text" "$said"
        exit 1
    fi
}

# topic NAME [FLAG…]
topic() {
    java_kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$KAFKA_BOOTSTRAP" --create --topic "$1" --partitions 3 \
        --replication-factor 3 "${@:2}"
}

# fill TOPIC CODEC: batches of ten records, dealt to three partitions in turn, each file one message.
fill() {
    local partition
    for partition in 0 1 2; do
        (cd "$work/records" && printf '%s\n' r* | awk -v p="$partition" 'int((NR - 1) / 10) % 3 == p' |
            xargs kcat -P -b "$KAFKA_BOOTSTRAP" -t "$1" -p "$partition" -z "$2")
    done
}

mkdir "$work/records"
"$engine" --target stdout --records 600 --payload-size 1000 --compressibility 0.5 --cores 0 --parallel 1 --run-id box \
    --report "$work/report.json" 2>/dev/null | split -b 1000 -a 3 -d - "$work/records/r"

# What others have in a folder that it is given stays.
status=0
KAFKA_LIBS=$work/records scripts/kafka.sh fetch 2>"$work/fetch.log" || status=$?
if [ "$status" != 2 ] || ! grep -q KAFKA_LIBS "$work/fetch.log"; then fail "fetch over files of others: exit code $status, not 2"; fi
mkdir -p "$KAFKA_DIR/2026" "$KAFKA_DIR/9"
echo notes | tee "$KAFKA_DIR/9/notes" >"$KAFKA_DIR/9/pid"
assignments=$(scripts/kafka.sh start --brokers 3)
eval "$assignments"
if ! [ -d "$KAFKA_DIR/2026" ] || ! [ -e "$KAFKA_DIR/9/notes" ]; then fail 'start removes what others have in KAFKA_DIR'; fi
# A cluster that runs keeps its keys, also where the script's own file is gone.
[ "$(scripts/kafka.sh start)" = "$assignments" ] || fail 'a second start has another cluster'
port=${KAFKA_BOOTSTRAP%%,*} port=${port#*:}
[ "$(scripts/kafka.sh start --port "$port")" = "$assignments" ] || fail 'its own port is another cluster'
if scripts/kafka.sh start --port $((port + 1)) 2>"$work/port.log" || ! grep -q 'another kind' "$work/port.log"; then
    fail 'a running cluster moves to another port'
fi
sum=$(cksum <"$KAFKA_CA")
mv "$KAFKA_DIR/cluster" "$work/cluster"
status=0
scripts/kafka.sh start 2>"$work/second.log" || status=$?
mv "$work/cluster" "$KAFKA_DIR/cluster"
if [ "$status" != 1 ] || ! grep -q 'kafka.sh stop$' "$work/second.log" || [ "$sum" != "$(cksum <"$KAFKA_CA")" ]; then
    fail "a start over brokers that run: exit code $status, not 1"
fi
for words in 'stop 2' 'kill 1 2' 'kill 4' 'restart 4' 'start --port 0' 'start --port x'; do
    status=0
    # shellcheck disable=SC2086  # several words
    scripts/kafka.sh $words 2>"$work/words.log" || status=$?
    [ "$status" = 2 ] || fail "kafka.sh $words: exit code $status, not 2"
done
scripts/kafka.sh status >"$work/status.log" || fail 'a broker is gone'

# What a new topic would refuse leaves none behind.
status=0
"$engine" --target "kafka://$KAFKA_BOOTSTRAP/unmade" --cores 0 --records 1 --batch-size 2000000 >"$work/unmade.log" 2>&1 ||
    status=$?
if [ "$status" != 2 ] || ! grep -q message.max.bytes "$work/unmade.log"; then
    fail "a batch that no topic would take: exit code $status, not 2"
fi
expect 5 'no topic' "kafka://$KAFKA_BOOTSTRAP/unmade"

topic whole
fill whole lz4
promise=(--expect "$work/report.json")
ca=(--tls-ca "$KAFKA_CA")
user=(--sasl-user "$KAFKA_SASL_USER" --sasl-password-file "$KAFKA_SASL_PASSWORD_FILE")

expect 0 'intact: 600 records' "kafka://$KAFKA_BOOTSTRAP/whole" "${promise[@]}" --run-id box
expect 0 'intact: 600 records' "kafka://$KAFKA_TLS_BOOTSTRAP/whole" "${ca[@]}"
expect 0 'intact: 600 records' "kafka://$KAFKA_MTLS_BOOTSTRAP/whole" "${ca[@]}" --tls-cert "$KAFKA_CLIENT_CERT" --tls-key "$KAFKA_CLIENT_KEY"
for mechanism in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
    expect 0 'intact: 600 records' "kafka://$KAFKA_SASL_BOOTSTRAP/whole" "${ca[@]}" --sasl-mechanism "$mechanism" "${user[@]}"
done
expect 0 'intact: 600 records' "kafka://$KAFKA_SASL_PLAINTEXT_BOOTSTRAP/whole" --sasl-mechanism OAUTHBEARER --sasl-password-file "$KAFKA_SASL_TOKEN_FILE"
for file in tls:TLS mtls:MTLS sasl-plain:SASL sasl-scram-256:SASL sasl-scram-512:SASL; do
    listener=KAFKA_${file#*:}_BOOTSTRAP
    expect 0 'intact: 600 records' "kafka://${!listener}/whole" --kafka-config "$KAFKA_DIR/${file%:*}.properties"
done

echo wrong >"$work/wrong"
for mechanism in PLAIN SCRAM-SHA-512; do
    expect 5 'authentication' "kafka://$KAFKA_SASL_BOOTSTRAP/whole" "${ca[@]}" --sasl-mechanism "$mechanism" \
        --sasl-user "$KAFKA_SASL_USER" --sasl-password-file "$work/wrong"
done
expect 5 'invalid_token' "kafka://$KAFKA_SASL_BOOTSTRAP/whole" "${ca[@]}" --sasl-mechanism OAUTHBEARER --sasl-password-file "$work/wrong"
expect 5 'not trusted' "kafka://$KAFKA_TLS_BOOTSTRAP/whole" --kafka-property security.protocol=SSL
expect 5 '--tls-cert' "kafka://$KAFKA_MTLS_BOOTSTRAP/whole" "${ca[@]}"
expect 5 'TLS' "kafka://$KAFKA_TLS_BOOTSTRAP/whole"
expect 5 'no topic' "kafka://$KAFKA_BOOTSTRAP/nowhere"
expect 2 ':1: ' "kafka://$KAFKA_BOOTSTRAP/whole" --kafka-config <(echo transactional.id=x)

topic hurt
rm "$work/records/r007"
fill hurt none
kcat -P -b "$KAFKA_BOOTSTRAP" -t hurt -p 1 "$work/records/r010" "$work/wrong"
expect 1 'sequence 7: ' "kafka://$KAFKA_BOOTSTRAP/hurt"
expect 1 'sequence 10: came again (partition 1 of hurt, offset 200)' "kafka://$KAFKA_BOOTSTRAP/hurt"
expect 1 'no record (partition 1 of hurt, offset 201)' "kafka://$KAFKA_BOOTSTRAP/hurt"
expect 1 'absent' "kafka://$KAFKA_BOOTSTRAP/hurt" "${promise[@]}"

# Each file is a transaction of its own, with the broker's mark behind it.
topic transacted
for partition in 0 1 2; do
    (cd "$work/records" && kcat -P -b "$KAFKA_BOOTSTRAP" -t transacted -p "$partition" -X transactional.id="t$partition" \
        r0"$partition"*)
done
# The broker marks a transaction's end after it has told the client.
for _ in {1..100}; do
    "$engine" verify "kafka://$KAFKA_BOOTSTRAP/transacted" >"$work/marks" 2>&1 || true
    grep -q 'open transaction' "$work/marks" || break
done
expect 1 '29 records of 1 producer in 3 sources' "kafka://$KAFKA_BOOTSTRAP/transacted" "${promise[@]}"

# The broker removes what is before an offset, as retention would.
topic old
fill old lz4
echo '{"version": 1, "partitions": [{"topic": "old", "partition": 1, "offset": 150}]}' >"$work/cut.json"
java_kafka org.apache.kafka.tools.DeleteRecordsCommand --bootstrap-server "$KAFKA_BOOTSTRAP" \
    --offset-json-file "$work/cut.json"
expect 1 'removed by retention' "kafka://$KAFKA_BOOTSTRAP/old"
expect 1 'INCOMPLETE' "kafka://$KAFKA_BOOTSTRAP/old" "${promise[@]}"

topic strict --config min.insync.replicas=3
strict=(--target "kafka://$KAFKA_BOOTSTRAP/strict" --cores 0 --parallel 1 --payload-size 1000)
"$engine" "${strict[@]}" --records 100 >"$work/strict.log" 2>&1 || fail 'a run with all replicas in sync'
grep -q "up to 300 kB of records on the brokers' disks (3 replicas)" "$work/strict.log" || fail 'strict: its size'

# The bootstrap list still names the dead broker, whose partitions others lead by and by.
scripts/kafka.sh kill 2
expect 0 'intact: 600 records' "kafka://$KAFKA_BOOTSTRAP/whole" "${promise[@]}"

# A topic that wants all of its replicas in sync is no target until then; each broker learns it by itself.
IFS=, read -ra addresses <<<"$KAFKA_BOOTSTRAP"
for address in "${addresses[0]}" "${addresses[2]}"; do
    for _ in {1..200}; do
        if [ "$(kcat -L -b "$address" -t strict | grep -c 'isrs: [13],[13]$')" = 3 ]; then continue 2; fi
        sleep 0.1
    done
    fail "$address: broker 2 is dead and in sync"
done
status=0
"$engine" "${strict[@]}" --records 1 >"$work/lacks.log" 2>&1 || status=$?
if [ "$status" != 5 ] || ! grep -q 'has 2 replicas in sync, min.insync.replicas is 3' "$work/lacks.log"; then
    fail "too few replicas in sync: exit code $status, not 5"
fi
scripts/kafka.sh restart 2
scripts/kafka.sh status >/dev/null

# None of them answers before most are there.
for broker in 1 2 3; do scripts/kafka.sh kill "$broker"; done
scripts/kafka.sh restart all
scripts/kafka.sh status >/dev/null

scripts/kafka.sh stop
if ! [ -e "$KAFKA_DIR/9/pid" ] || [ -e "$KAFKA_DIR/1/pid" ]; then fail 'stop removes what others have, or leaves its own'; fi
