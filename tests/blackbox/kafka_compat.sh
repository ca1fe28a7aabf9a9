#!/usr/bin/env bash
# A run through rskafka against a real Apache Kafka: every record arrives once, with the keys and headers of the
# native client, on plain, TLS and SASL listeners and with each codec; what rskafka cannot do is said before the start.
#
#   tests/blackbox/kafka_compat.sh ENGINE
set -euo pipefail
engine=$(realpath "${1:-./engine}")
cd "$(dirname "$0")/../.."

# shellcheck source=tests/blackbox/kafka/cluster.sh
. tests/blackbox/kafka/cluster.sh

# produce NAME BROKERS FLAGS…: a run to topic NAME; its report is NAME.json.
produce() {
    local name=$1 brokers=$2 status=0
    shift 2
    "$engine" --target "kafka://$brokers/$name" --parallel 2 --payload-size 300-900 --batch-size 20000 --create-topic on \
        --idempotent off --log-format json --report "$work/$name.json" "$@" >"$work/$name.log" 2>&1 || status=$?
    [ "$status" = 0 ] || fail "$name: the run ended with $status"
}

# holds NAME RECORDS: the broker counts so many records in topic NAME, the report as many, and verify finds each.
holds() {
    local counted reported
    counted=$(java_kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$KAFKA_BOOTSTRAP" --topic "$1" --time -1 |
        awk -F: '{ sum += $3 } END { print sum + 0 }')
    reported=$(figure "$1" records_produced)
    if [ "$counted" != "$2" ] || [ "$reported" != "$2" ]; then
        fail "$1: $counted records at the broker, $reported in the report, not $2"
    fi
    "$engine" verify "kafka://$KAFKA_BOOTSTRAP/$1" --expect "$work/$1.json" >"$work/verify.log" 2>&1 || fail "$1: verify ended with $?"
    tr -d , <"$work/verify.log" | grep -q "intact: $2 records" || fail "$1: verify does not find $2 records"
}

figure() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["totals"][sys.argv[2]])' "$work/$1.json" "$2"
}

# records NAME: partition, key, size and sorted headers of every record, but for the time.
records() {
    kcat -C -b "$KAFKA_BOOTSTRAP" -t "$1" -o beginning -e -q -X check.crcs=true -f '%p|%k|%S|%h\n' | python3 -c '
import re, sys
for line in sorted(sys.stdin):
    facts, headers = line.rstrip("\n").rsplit("|", 1)
    headers = [re.sub(r"^(timestamp_ns)=\d{20}$", r"\1", header) for header in headers.split(",")]
    print(facts, *sorted(headers), sep="|")
'
}

# alike NAME RECORDS FLAGS…: the same run through both clients, to NAME-uring and NAME-rskafka. The ring holds all
# records: where it repeats depends on what frames them.
alike() {
    local name=$1 count=$2 client
    shift 2
    for client in uring rskafka; do
        produce "$name-$client" "$KAFKA_BOOTSTRAP" --records "$count" --ring-size 4Mi --kafka-client "$client" --run-id "$name" "$@"
        holds "$name-$client" "$count"
        records "$name-$client" | sort >"$work/$client.records"
    done
    [ "$(wc -l <"$work/uring.records")" = "$count" ] || fail "$name: kcat reads $(wc -l <"$work/uring.records") records"
    diff "$work/uring.records" "$work/rskafka.records" >"$work/diff.log" || fail "$name: the clients differ"
}

# refused TEXT FLAGS…: exit 2, and the message has the text.
refused() {
    local text=$1 said status=0
    shift
    said=$("$engine" --target kafka://127.0.0.1:9/t --kafka-client rskafka "$@" 2>&1) || status=$?
    if [ "$status" != 2 ] || [[ $said != *"$text"* ]] || [[ $said != *--kafka-client=uring* ]]; then
        fail "$*: exit code $status, not 2 with '$text': $said"
    fi
}

refused '--acks 1: it always waits for all' --acks 1
refused '--idempotent on' --acks all
refused '--connections' --idempotent off --connections 2
refused '--io uring' --idempotent off --io uring
refused '--retry 3' --idempotent off --retry 3

assignments=$(scripts/kafka.sh start)
eval "$assignments"
compat=(--kafka-client rskafka)
ca=(--tls-ca "$KAFKA_CA")
user=(--sasl-user "$KAFKA_SASL_USER" --sasl-password-file "$KAFKA_SASL_PASSWORD_FILE")

produce paced "$KAFKA_BOOTSTRAP" "${compat[@]}" --records 3000 --rate 2MB/s --poll adaptive --linger 2ms
holds paced 3000
produce busy "$KAFKA_BOOTSTRAP" "${compat[@]}" --records 5000 --poll busy --partitions 6
holds busy 5000
for codec in gzip snappy lz4 zstd; do
    produce "$codec" "$KAFKA_BOOTSTRAP" "${compat[@]}" --records 1000 --compression "$codec" --compressibility 0.5
    holds "$codec" 1000
done

produce tls "$KAFKA_TLS_BOOTSTRAP" "${compat[@]}" --records 500 "${ca[@]}"
holds tls 500
produce mtls "$KAFKA_MTLS_BOOTSTRAP" "${compat[@]}" --records 500 "${ca[@]}" --tls-cert "$KAFKA_CLIENT_CERT" --tls-key "$KAFKA_CLIENT_KEY"
holds mtls 500
for mechanism in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
    produce "$mechanism" "$KAFKA_SASL_BOOTSTRAP" "${compat[@]}" --records 500 "${ca[@]}" --sasl-mechanism "$mechanism" "${user[@]}"
    holds "$mechanism" 500
done
produce OAUTHBEARER "$KAFKA_SASL_PLAINTEXT_BOOTSTRAP" "${compat[@]}" --records 500 --sasl-mechanism OAUTHBEARER --sasl-password-file "$KAFKA_SASL_TOKEN_FILE"
holds OAUTHBEARER 500

alike headers 1500 --annotate headers --key cycle:11
alike weights 1500 --mode sampled --weight 12 --rate 20MB/s --key producer
alike keyless 1500
echo 'rskafka: all records there, as the native client writes them'
