#!/usr/bin/env bash
# A broker whose disk is full: the run ends with exit code 1 and true books, and once there is space again all that it
# reported as produced is there. In a mount namespace of its own, for the small disk. Called by kafka_faults.sh.
set -euo pipefail
export engine=$1
# shellcheck source=tests/blackbox/kafka/common.sh
. tests/blackbox/kafka/common.sh
export KAFKA_HEAP_OPTS='-Xms128m -Xmx256m'
trap 'umount --lazy "$work/disk" 2>/dev/null || true; finish' EXIT
mkdir "$work/disk"
mount -t tmpfs -o size=60m none "$work/disk"
assignments=$(scripts/kafka.sh start --property "log.dirs=$work/disk" --property log.segment.bytes=4194304)
eval "$assignments"
run 1 full --target "kafka://$KAFKA_BOOTSTRAP/full" --payload-size 1000 --rate 30MB/s --duration 12s --parallel 2 \
    --request-timeout 2s --drain-timeout 2s --kafka-property delivery.timeout.ms=6000 --linger 0ms
holds full 't["records_produced"] > 1000' 't["records_failed"] + t["records_uncertain"] > 0' 'r["elapsed_seconds"] < 30'
grep -q 'mend' "$work/full.log" || failed 'full: nothing about how to mend it' "$work/full.log"
mount -o remount,size=400m "$work/disk"
scripts/kafka.sh restart 1
whole full full
