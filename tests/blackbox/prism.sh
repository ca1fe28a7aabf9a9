#!/usr/bin/env bash
# Everything that the engine posts, judged by Prism, an OpenAPI server that is not ours: it answers each request by
# schemas/openapi/governance.yaml and refuses what does not follow it. Kept below target/prism/.
#
#   tests/blackbox/prism.sh ENGINE
set -euo pipefail
engine=$(realpath "${1:?the path of the engine}")
cd "$(dirname "$0")/../.."

package=@stoplight/prism-cli@5.14.2
events=10000
contract=schemas/openapi/governance.yaml
tools=${CARGO_TARGET_DIR:-target}/prism
prism=$tools/node_modules/.bin/prism

if [ ! -f "$tools/ready" ] || [ "$(<"$tools/ready")" != "$package" ]; then
    if [ "${INSTALL:-1}" != 1 ]; then
        echo "Prism is missing; fetch it: tests/blackbox/prism.sh $engine"
        exit 1
    fi
    rm -rf "$tools"
    mkdir -p "$tools"
    npm install --silent --no-fund --no-audit --prefix "$tools" "$package"
    printf '%s' "$package" >"$tools/ready"
fi

work=$(mktemp -d)
pids=()
# Ends what this script started and nothing else.
clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT

fail() {
    echo "$1"
    tail -n 40 "$work"/*.log
    exit 1
}

# start NAME COMMAND CONTRACT: a Prism on a free port; its address goes to $url.
start() {
    local log=$work/$1.log tries
    # Here before the first look at it.
    : >"$log"
    NO_COLOR=1 node "$prism" "$2" --errors --host 127.0.0.1 --port 0 "$3" >"$log" 2>&1 &
    pids+=($!)
    for tries in {1..300}; do
        url=$(sed -n 's/.*Prism is listening on \(http:[^ ]*\).*/\1/p' "$log" | tr -d '\033' | head -n 1)
        if [ -n "$url" ]; then return; fi
        kill -0 "${pids[-1]}" 2>/dev/null || fail "Prism does not take $3 (look $tries)"
        sleep 0.2
    done
    fail "Prism did not start"
}

# post NAME RECORDS FLAGS…: a run whose every record is told of; its report is $work/NAME.json.
post() {
    local name=$1 records=$2
    shift 2
    "$engine" --target null --parallel 4 --records "$records" --payload-size 64-256 --rate 2000kB/s --drain-timeout 30s \
        --governance-url "$url" --governance-every 1 --log-format json --report "$work/$name.json" "$@" \
        >"$work/$name.engine.log" 2>&1 || fail "the run ended with $?"
}

# figure NAME KEY: what the report says of governance.
figure() {
    node -e 'console.log(JSON.parse(require("fs").readFileSync(process.argv[1])).governance[process.argv[2]])' \
        "$work/$1.json" "$2"
}

# answers NAME STATUS: how many requests Prism answered with it.
answers() {
    grep -c "Respond.*$2" "$work/$1.log" || true
}

start whole mock "$contract"
post whole "$events" --mode sampled --weight 7 --run-id prism.1
for key in dropped refused failed invalid not_announced; do
    [ "$(figure whole "$key")" = 0 ] || fail "$key: $(figure whole "$key"), $(figure whole last_error)"
done
[ "$(figure whole posted)" = "$events" ] || fail "posted: $(figure whole posted) of $events"
if grep -iE 'violation|unprocessable|invalid|Request (body|did) ' "$work/whole.log"; then
    fail 'Prism has found violations'
fi

# The judge is awake: what follows our contract does not follow one in which sequences are shorter.
sed "s/{0,19})/{0,1})/" "$contract" >"$work/strict.yaml"
start strict mock "$work/strict.yaml"
post strict 1200
[ "$(figure strict refused)" -gt 0 ] || fail "Prism lets everything through"
[ "$(figure strict invalid)" = 0 ] || fail "the engine did not follow its own contract"
grep -qiE 'violation' "$work/strict.log" || fail "Prism does not say what it refuses"
[ "$(answers strict 422)" -gt 0 ] || fail "no 422"
echo "$events events, no violation"
