#!/usr/bin/env bash
# A fleet of two into one topic of a real Apache Kafka; the merged report is proved by what was left behind.
#
#   tests/blackbox/fleet.sh [ENGINE]
set -euo pipefail
engine=$(realpath "${1:-./engine}")
cd "$(dirname "$0")/../.."

# shellcheck source=tests/blackbox/kafka/common.sh
. tests/blackbox/kafka/common.sh
assignments=$(scripts/kafka.sh start)
eval "$assignments"
# Two seconds: these --records are of each. What is due at the end of a --duration would not be sent where the broker
# pauses just then.
for shard in 0 1; do
    run_id=pair run 0 pair$shard --target "kafka://$KAFKA_BOOTSTRAP/pair" --payload-size 600 --rate 2000001 --records 3334 \
        --parallel 2 --shard $shard/2 &
    shards[shard]=$!
done
for shard in 0 1; do wait "${shards[shard]}"; done
"$engine" merge "$work/pair0.json" "$work/pair1.json" --report "$work/pair.json"
holds pair '[one["id"] for one in r["producers"]] == [0, 1, 2, 3]' 't["records_produced"] == t["records_offered"] == 6668' \
    'r["pacing"]["target_bytes_per_second"] == 2000001'
whole pair pair
counted pair pair
# Each partition holds the records of one producer, and each producer has its own.
kcat -C -q -e -b "$KAFKA_BOOTSTRAP" -t pair -X check.crcs=true -f '%p %S %s' >"$work/records"
python3 - "$work/records" <<'PYTHON'
import re, struct, sys
left, owners = open(sys.argv[1], "rb").read(), {}
while left:
    partition, size, left = left.split(b" ", 2)
    record, left = left[:int(size)], left[int(size):]
    owners.setdefault(int(partition), set()).add(struct.unpack_from("<I", record, 16)[0])
assert sorted(owners) == [0, 1, 2, 3] and all(owners[at] == {at} for at in owners), owners
PYTHON
offsets_agree
