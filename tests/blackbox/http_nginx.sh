#!/usr/bin/env bash
# `http://` to a real nginx: what it answers by itself, its limits, what it passes on to `engine receive`, its idle
# closes, a restart in the middle. nginx's own log is the second set of books.
#
#   tests/blackbox/http_nginx.sh ENGINE
set -euo pipefail
engine=$(realpath "${1:?the path of the engine}")
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/blackbox/common/scratch.sh
. "$here/common/scratch.sh"
# shellcheck source=tests/blackbox/common/nginx.sh
. "$here/common/nginx.sh"
need 'nginx python3' nginx python3

read -r port behind < <(free_ports 2)

nginx_conf <<CONF
    log_format books '\$uri \$status \$http_x_producer_id:\$http_x_sequence';
    limit_req_zone \$uri zone=often:1m rate=300r/s;
    limit_conn_zone \$uri zone=many:1m;
    upstream receiver { server 127.0.0.1:$behind; keepalive 8; }
    server {
        listen 127.0.0.1:$port;
        location = /ok { return 204; }
        location = /made { return 201 "made"; }
        location = /missing { return 404; }
        location = /broken { return 500; }
        location = /small { client_max_body_size 10k; proxy_pass http://receiver; }
        location = /brief { keepalive_requests 10; return 204; }
        location = /idle { keepalive_timeout 1s; return 204; }
        location = /often { limit_req zone=often burst=2 nodelay; limit_req_status 429; proxy_pass http://receiver; }
        location = /many { limit_conn many 2; limit_conn_status 503; proxy_pass http://receiver; }
        location = /pass { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://receiver; }
        location = /stream {
            proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
            proxy_pass http://receiver;
        }
    }
CONF

# receive: a verifying receiver behind nginx; its report is $work/received.json.
receive() {
    start_receiver receive --listen "http://127.0.0.1:$behind" --verify --report "$work/received.json"
}

# received RECORDS: ends the receiver, which must have found everything intact.
received() {
    local status=0
    kill -INT "$receiver"
    wait "$receiver" || status=$?
    [ "$status" = 0 ] || fail "the receiver ended with $status"
    [ "$(value received.json records_received)" = "$1" ] || fail "the receiver has $(value received.json records_received) records, not $1"
}

# value FILE KEY…: what a report says.
value() {
    python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, key: value[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$work/$1" "${@:2}"
}

# run CODE PATH FLAG…: a run that must end so; its report is $work/report.json.
run() {
    local code=$1 path=$2 status=0
    shift 2
    : >"$work/access.log"
    "$engine" --target "http://127.0.0.1:$port$path" --report "$work/report.json" --log-format text "$@" \
        >"$work/run.log" 2>&1 || status=$?
    [ "$status" = "$code" ] || fail "$path $*: exit code $status, not $code"
}

# books PRODUCED FAILED UNCERTAIN
books() {
    local found
    found="$(value report.json totals records_produced) $(value report.json totals records_failed) $(value report.json totals records_uncertain)"
    [ "$found" = "$*" ] || fail "produced, failed, uncertain: $found, not $*"
}

# answered STATUS COUNT: what nginx has logged, and that it saw no record twice.
answered() {
    local lines doubles
    for _ in {1..100}; do
        lines=$(grep -c " $1 " "$work/access.log" || true)
        if [ "$lines" = "$2" ]; then break; fi
        sleep 0.02
    done
    [ "$lines" = "$2" ] || fail "nginx answered $1 to $lines requests, not $2"
    doubles=$(grep " $1 " "$work/access.log" | sort | uniq -d | wc -l)
    [ "$doubles" = 0 ] || [ "$1" -ge 400 ] || fail "$doubles records were answered $1 twice"
}

start_nginx "$port"
for io in uring syscall; do
    echo "== $io: answers"
    run 0 /ok --records 5000 --connections 4 --parallel 2 --io "$io"
    books 5000 0 0
    answered 204 5000
    run 0 /made --records 500 --payload-size 1Mi --io "$io"
    books 500 0 0
    answered 201 500
    run 1 /missing --records 50 --io "$io"
    books 0 50 0
    answered 404 50
    run 1 /broken --records 5 --retry 2,1ms-10ms --io "$io"
    books 0 0 5
    answered 500 15

    echo "== $io: limits"
    receive
    run 1 /small --records 20 --payload-size 5Mi --io "$io"
    books 0 20 0
    [ "$(value report.json errors status)" = 20 ] || fail 'a body that is too large is a status'
    answered 413 20
    # Half of them fit.
    run 1 /small --records 400 --payload-size 1000-19480 --connections 3 --io "$io"
    fit=$(value report.json totals records_produced)
    if [ "$fit" -lt 150 ] || [ "$fit" -gt 250 ]; then fail "$fit of 400 fit"; fi
    answered 413 $((400 - fit))
    run 0 /often --records 600 --connections 4 --retry 5000,5ms-50ms --io "$io"
    books 600 0 0
    [ "$(value report.json totals retries)" -gt 0 ] || fail 'nothing was throttled'
    grep -q 'blocks sent again' "$work/run.log" || fail 'the summary does not tell of the retries'
    run 0 /many --records 1000 --connections 6 --retry 100,1ms-10ms --io "$io"
    books 1000 0 0
    kill -INT "$receiver"
    wait "$receiver" || true

    echo "== $io: connections that nginx closes"
    run 0 /brief --records 3000 --connections 2 --io "$io"
    books 3000 0 0
    answered 204 3000
    python3 -c "import sys; sys.exit($(value report.json elapsed_seconds) > 20)" || fail 'a closed connection takes too long to replace'
    # Each connection idles for longer than nginx lets it.
    run 0 /idle --records 6 --connections 2 --rate 4096 --io "$io"
    books 6 0 0

    echo "== $io: nginx passes on"
    for path in /pass /stream; do
        receive
        run 0 "$path" --records 4000 --connections 4 --parallel 2 --payload-size 100-20000 --io "$io"
        books 4000 0 0
        received 4000
        answered 204 4000
        receive
        run 0 "$path" --records 6 --payload-size 20Mi --io "$io"
        received 6
    done

    echo "== $io: a restart in the middle"
    : >"$work/access.log"
    "$engine" --target "http://127.0.0.1:$port/ok" --io "$io" --rate 8MB/s --records 8000 --connections 3 --retry 30 \
        --catch-up 60s --report "$work/report.json" >"$work/run.log" 2>&1 &
    sender=$!
    pids+=("$sender")
    for _ in {1..500}; do
        if [ -s "$work/access.log" ]; then break; fi
        sleep 0.02
    done
    kill -QUIT "$nginx_pid"
    wait "$nginx_pid" || true
    start_nginx "$port"
    status=0
    wait "$sender" || status=$?
    [ "$status" = 0 ] || fail "the run over a restart ended with $status"
    books 8000 0 0
done
echo 'nginx: every book agrees'
