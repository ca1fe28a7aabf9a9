#!/usr/bin/env bash
# Everything that the engine posts, judged by Prism, an OpenAPI server that is not ours: it answers each request by
# schemas/openapi/governance.yaml and refuses what does not follow it. Kept below target/prism/.
#
#   tests/blackbox/prism.sh ENGINE
#   tests/blackbox/prism.sh --prepare    only fetches Prism (once)
set -euo pipefail
wanted=${1:?the path of the engine, or --prepare}
[ "$wanted" = --prepare ] || engine=$(realpath "$wanted")
cd "$(dirname "$0")/../.."

package=@stoplight/prism-cli@5.14.2
events=5000
contract=schemas/openapi/governance.yaml
tools=${CARGO_TARGET_DIR:-target}/prism
prism=$tools/node_modules/.bin/prism

if [ ! -f "$tools/ready" ] || [ "$(<"$tools/ready")" != "$package" ]; then
    if [ "${INSTALL:-1}" != 1 ]; then
        echo "Prism is missing; fetch it: tests/blackbox/prism.sh --prepare"
        exit 1
    fi
    rm -rf "$tools"
    mkdir -p "$tools"
    npm install --silent --no-fund --no-audit --prefix "$tools" "$package"
    printf '%s' "$package" >"$tools/ready"
fi
if [ "$wanted" = --prepare ]; then exit; fi

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

# post NAME FLAGS…: a run whose every record is told of; its report is $work/NAME.json.
post() {
    local name=$1
    shift
    "$engine" --target null --governance-url "$url" --governance-every 1 --log-format json \
        --report "$work/$name.json" "$@" >"$work/$name.engine.log" 2>&1 || fail "the run ended with $?"
}
# Not too fast for two validators on one processor: what is not told 5 s after a run's end is dropped.
fast=(--parallel 4 --payload-size 64-256 --rate 1000kB/s)
# Half a second between events, and no batch waits for so long: each goes in a call of its own.
slow=(--parallel 1 --payload-size 100 --rate 200B/s)

# figure NAME KEY: what the report says of governance.
figure() {
    node -e 'console.log(JSON.parse(require("fs").readFileSync(process.argv[1])).governance[process.argv[2]])' \
        "$work/$1.json" "$2"
}

# answers NAME STATUS: how many requests Prism answered with it.
answers() {
    grep -c "Respond.*$2" "$work/$1.log" || true
}

# calls NAME PATH: how many requests for it Prism has heard.
calls() {
    grep -ac "post $2 .*Request received" "$work/$1.log" || true
}

# all_posted NAME COUNT: governance was told of everything.
all_posted() {
    local key
    for key in dropped refused failed invalid not_announced; do
        [ "$(figure "$1" "$key")" = 0 ] || fail "$1: $key: $(figure "$1" "$key"), $(figure "$1" last_error)"
    done
    [ "$(figure "$1" posted)" = "$2" ] || fail "$1: posted: $(figure "$1" posted) of $2"
}

start whole mock "$contract"
post whole "${fast[@]}" --records "$events" --mode sampled --weight 7 --run-id prism.1
all_posted whole "$events"
post single "${slow[@]}" --records 6 --run-id prism.2
all_posted single 6
for path in /v1/runs /v1/producers /v1/events /v1/events/batch /v1/runs/prism.1/close /v1/runs/prism.2/close; do
    [ "$(calls whole "$path")" -gt 0 ] || fail "Prism has judged no call of $path"
done
if grep -iE 'violation|unprocessable|invalid|Request (body|did) ' "$work/whole.log"; then
    fail 'Prism has found violations'
fi

# The judge is awake: what follows our contract does not follow one in which sequences are shorter.
sed "s/{0,19})/{0,1})/" "$contract" >"$work/strict.yaml"
start strict mock "$work/strict.yaml"
post strict "${fast[@]}" --records 1200
[ "$(figure strict refused)" -gt 0 ] || fail "Prism lets everything through"
[ "$(figure strict invalid)" = 0 ] || fail "the engine did not follow its own contract"
grep -qiE 'violation' "$work/strict.log" || fail "Prism does not say what it refuses"
[ "$(answers strict 422)" -gt 0 ] || fail "no 422"
echo "$events events, no violation"
