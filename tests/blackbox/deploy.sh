#!/usr/bin/env bash
# A real Prometheus with the configuration and rules of deploy/ scrapes two engines: the aggregate is the sum of their
# reports, every query of the Grafana dashboard returns data, and the figure that the autoscaler follows comes and goes.
# Also the image's health check, against a live engine and a dead one.
#
#   tests/blackbox/deploy.sh ENGINE
set -euo pipefail
engine=$(realpath "${1:?the path of the engine}")
here=$(realpath "$(dirname "$0")")
cd "$(dirname "$0")/../.."
# shellcheck source=tests/blackbox/common/scratch.sh
. "$here/common/scratch.sh"
need 'prometheus python3' prometheus promtool python3

ask() { python3 tests/deploy/ask_prometheus.py "http://127.0.0.1:$port" "$@"; }

# start NAME PRODUCERS: an engine at 2 MB/s until it is told to stop; its address is in ${address[NAME]}.
declare -A address engine_pid
start() {
    local name=$1
    # Here before the first look at it.
    : >"$work/$name.log"
    ENGINE_METRICS_ADDR=127.0.0.1:0 "$engine" --target null --parallel "$2" --rate 2MB/s --payload-size 512 --duration inf \
        --poll adaptive --log-format json --metrics-hold 30s --report "$work/$name.json" >"$work/$name.out" 2>"$work/$name.log" &
    engine_pid[$name]=$!
    pids+=("${engine_pid[$name]}")
    for _ in {1..200}; do
        address[$name]=$(sed -n 's/.*"event":"metrics","address":"\([^"]*\)".*/\1/p' "$work/$name.log")
        if [ -n "${address[$name]}" ]; then return; fi
        kill -0 "${engine_pid[$name]}" 2>/dev/null || fail "engine $name did not start"
        sleep 0.05
    done
    fail "engine $name serves no metrics"
}

start one 1
start two 3

echo '== the health check of the image'
ENGINE_METRICS_ADDR=${address[one]} deploy/healthcheck.sh || fail 'a live engine is not healthy'
ENGINE_METRICS_ADDR=:${address[two]##*:} deploy/healthcheck.sh || fail 'an address without a host is this host'
"$engine" receive --listen tcp://127.0.0.1:0 >"$work/receive.out" 2>"$work/receive.log" &
pids+=($!)
# Until it says something its command line is still that of this script.
for _ in {1..200}; do
    if [ -s "$work/receive.log" ] || [ -s "$work/receive.out" ]; then break; fi
    sleep 0.05
done
ENGINE_METRICS_ADDR=127.0.0.1:1 deploy/healthcheck.sh "${pids[-1]}" || fail 'a receiver is healthy, although it serves no metrics'
# behind_init WORD…: the command line of an init process with the engine as its child; its number is in ${pids[-1]}.
behind_init() {
    # What is left of the one before says nothing of this one.
    rm -f "$work/init.out"
    python3 -c 'import time; print("here", flush=True); time.sleep(600)' -- "$@" >"$work/init.out" &
    pids+=($!)
    for _ in {1..200}; do
        if [ -s "$work/init.out" ]; then return; fi
        sleep 0.05
    done
    fail 'the init process did not start'
}
behind_init engine receive --listen tcp://:9000
ENGINE_METRICS_ADDR=127.0.0.1:1 deploy/healthcheck.sh "${pids[-1]}" || fail 'a receiver behind an init process is healthy'
behind_init /usr/local/bin/engine --target null
if ENGINE_METRICS_ADDR=127.0.0.1:1 deploy/healthcheck.sh "${pids[-1]}" 2>/dev/null; then fail 'a run behind an init process that does not answer is healthy'; fi
if ENGINE_METRICS_ADDR=127.0.0.1:1 deploy/healthcheck.sh "${engine_pid[one]}" 2>/dev/null; then fail 'a run that does not answer is healthy'; fi

# The shipped configuration, but for its folder, the two addresses, and its times: one second between scrapes and
# ten in the rules' window, where a cluster has fifteen and sixty.
cp -r deploy/prometheus "$work/"
sed -i -e "s/^    dns_sd_configs: .*/    static_configs: [{ targets: ['${address[one]}', '${address[two]}'] }]/" \
    -e 's/_interval: 5s/_interval: 1s/' "$work/prometheus/prometheus.yml"
sed -i -e 's/\[1m\]/[10s]/' -e 's/offset 1m/offset 10s/' -e 's/vector(8e9)/vector(16e6)/' "$work/prometheus/rules/fleet.yml"
[ "$(grep -c static_configs "$work/prometheus/prometheus.yml")" = 1 ] || fail 'prometheus.yml has other targets than this test knows'
[ "$(grep -c 'offset 10s\|16e6' "$work/prometheus/rules/fleet.yml")" = 2 ] || fail 'the rules have other windows than this test knows'
promtool check config "$work/prometheus/prometheus.yml" >"$work/promtool.log" || fail 'promtool complains'

port=$(free_ports 1)
prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address="127.0.0.1:$port" >"$work/prometheus.log" 2>&1 &
prometheus_pid=$!
pids+=("$prometheus_pid")

echo '== the figure to scale by'
ask wait 'up == 1' 30 >"$work/up"
# Eight pods of 2 MB/s make 16 MB/s, whether two run or twenty.
replicas=$(ask wait 'job:generator_replicas:wanted{job="generator-fleet"} == 8' 60)
rate=$(ask wait 'job:generator_bytes_produced:rate1m > 3.8e6 < 4.2e6' 20)
echo "two engines at 2 MB/s make $rate B/s; $replicas would make 16 MB/s"

echo '== the dashboard'
ask dashboard deploy/grafana/dashboards/generator.json

echo '== the sum of the reports'
for name in one two; do kill -TERM "${engine_pid[$name]}"; done
for name in one two; do
    status=0
    # It stays until its last figures have been scraped.
    wait "${engine_pid[$name]}" || status=$?
    [ "$status" = 0 ] || fail "engine $name ended with $status"
done
# The scrape is in the database a moment after it was answered.
ask wait 'count(up == 0) == 2' 20 >"$work/down"
ask total "$work/one.json" "$work/two.json"
ask wait 'absent(job:generator_replicas:wanted)' 20 >"$work/absent"
if ENGINE_METRICS_ADDR=${address[one]} deploy/healthcheck.sh 2>/dev/null; then fail 'a dead engine is healthy'; fi
kill -0 "$prometheus_pid" || fail 'Prometheus is gone'
echo 'Prometheus agrees with the reports'
