#!/usr/bin/env bash
# `https://` to nginx and to `openssl s_server`, with the certificates of tests/tls: an authority of our own, one that
# nobody trusts, certificates that are expired or another host's, and servers that want one of the client.
#
#   tests/blackbox/http_tls.sh ENGINE
set -euo pipefail
engine=$(realpath "${1:?the path of the engine}")
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/blackbox/common/scratch.sh
. "$here/common/scratch.sh"
# shellcheck source=tests/blackbox/common/nginx.sh
. "$here/common/nginx.sh"
need 'nginx openssl python3' nginx openssl python3

# In a folder with a space, as a project may be.
certificates="$work/the certificates"
cp -r "$here/../tls" "$certificates"
# Authorities of a system whose SSL_CERT_FILE says so. Ours is not the first of them: neither as they lie here, nor
# sorted by their bytes, as rustls-native-certs hands them on.
trusted=$certificates/trusted.pem
cat "$certificates/stranger.pem" "$certificates/ca.pem" >"$trusted"

read -r good old new expired other mutual openssl_port < <(free_ports 7)

# server PORT CERTIFICATE DIRECTIVES
server() {
    cat <<CONF
    server {
        listen 127.0.0.1:$1 ssl;
        ssl_certificate "$certificates/$2.pem";
        ssl_certificate_key "$certificates/$2.key";
        $3
        location / { return 204; }
        location /v1/ { return 202; }
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_set_header Connection "";
        location /uring { proxy_pass ${behind[uring]}; }
        location /syscall { proxy_pass ${behind[syscall]}; }
    }
CONF
}

# One receiver for each back end: it checks every record that nginx hands on, and refuses some at first.
declare -A behind receivers
for io in uring syscall; do
    start_receiver "receiver.$io" --listen http://127.0.0.1:0 --verify --fault status=503:2% --seed 3 \
        --report "$work/received.$io.json"
    receivers[$io]=$receiver
    behind[$io]=$address
done

wants_client="ssl_verify_client on; ssl_client_certificate \"$certificates/ca.pem\";"
nginx_conf <<CONF
    log_format books '\$status \$ssl_protocol \$ssl_client_s_dn \$http_x_sequence';
    ssl_protocols TLSv1.2 TLSv1.3;
$(server "$good" server '')
$(server "$old" server 'ssl_protocols TLSv1.2;')
$(server "$new" server 'ssl_protocols TLSv1.3;')
$(server "$expired" expired '')
$(server "$other" other '')
$(server "$mutual" server "$wants_client")
CONF
start_nginx "$mutual"

# run CODE PORT WORDS FLAG…: a run that must end so and say this.
run() {
    local code=$1 port=$2 words=$3 status=0
    shift 3
    "$engine" --target "https://localhost:$port/in" --report "$work/report.json" --log-format text "$@" \
        >"$work/run.log" 2>&1 || status=$?
    [ "$status" = "$code" ] || fail "$port $*: exit code $status, not $code"
    grep -qiE "$words" "$work/run.log" || fail "$port $*: nothing about '$words'"
}

# value KEY…: what the last report says.
value() {
    python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, key: value[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$work/report.json" "$@"
}

# tell: a run that tells nginx of each of its 300 records, as if it were the governance server.
tell() {
    "$engine" --target null --parallel 1 --records 300 --payload-size 1000 --rate 1MB/s --report "$work/report.json" \
        --governance-url "https://localhost:$good" --governance-every 1 --log-format text >"$work/run.log" 2>&1 ||
        fail "the run with governance ended with $?"
}

for io in uring syscall; do
    echo "== $io: trusted"
    for port in "$good" "$old" "$new"; do
        : >"$work/access.log"
        run 0 "$port" 'TLS' --tls-ca "$certificates/ca.pem" --records 2000 --connections 3 --payload-size 100-9000 --io "$io"
        [ "$(value totals records_produced)" = 2000 ] || fail 'not all were produced'
        for _ in {1..100}; do
            lines=$(grep -c '^204 TLSv1' "$work/access.log" || true)
            if [ "$lines" = 2000 ]; then break; fi
            sleep 0.02
        done
        [ "$lines" = 2000 ] || fail "nginx has answered $lines of 2000 requests"
        run 0 "$port" 'TLS' --tls-ca "$certificates/ca.pem" --records 20 --payload-size 10Mi --ring-size 64Mi --io "$io"
        [ "$(value totals bytes_produced)" = $((20 * 10 * 1024 * 1024)) ] || fail 'not all bytes were produced'
    done
    grep -q 'TLSv1.3' "$work/access.log" || fail 'no TLS 1.3'
    SSL_CERT_FILE=$trusted run 0 "$good" 'TLS' --records 20 --io "$io"
    [ "$(value totals records_produced)" = 20 ] || fail 'not all were produced for an authority of the system'

    echo "== $io: what arrives behind TLS"
    "$engine" --target "https://localhost:$good/$io" --tls-ca "$certificates/ca.pem" --records 3000 --connections 3 \
        --payload-size 100-90000 --io "$io" --report "$work/report.json" --log-format json >"$work/run.log" 2>&1 \
        || fail "the run to the verifying receiver ended with $?"
    [ "$(value totals retries)" -gt 0 ] || fail 'no request was refused at first'
    kill -INT "${receivers[$io]}"
    wait "${receivers[$io]}" || fail "the receiver behind nginx has found something ($io)"
    received=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["records_received"])' "$work/received.$io.json")
    [ "$received" = 3000 ] || fail "$received of 3000 records arrived ($io)"

    echo "== $io: refused"
    run 5 "$good" 'unknown ?issuer|authority' --records 1 --io "$io"
    grep -q -- '--tls-ca' "$work/run.log" || fail 'the mend does not name --tls-ca'
    run 5 "$good" 'unknown ?issuer|authority|signature' --tls-ca "$certificates/stranger.pem" --records 1 --io "$io"
    run 5 "$expired" 'expired' --tls-ca "$certificates/ca.pem" --records 1 --io "$io"
    run 5 "$other" 'other.example' --tls-ca "$certificates/ca.pem" --records 1 --io "$io"

    echo "== $io: a certificate of the client's"
    : >"$work/access.log"
    client=(--tls-ca "$certificates/ca.pem" --tls-cert "$certificates/client.pem" --tls-key "$certificates/client.key")
    run 0 "$mutual" 'TLS' "${client[@]}" --records 100 --io "$io"
    for _ in {1..100}; do
        if [ "$(grep -c 'CN=client-7' "$work/access.log")" = 100 ]; then break; fi
        sleep 0.02
    done
    grep -q '^204 .*CN=client-7' "$work/access.log" || fail 'nginx has not seen the certificate'
    # nginx lets the handshake pass and answers 400.
    run 1 "$mutual" '5 failed.*status 5' --tls-ca "$certificates/ca.pem" --records 5 --io "$io"
done

echo '== governance over https'
SSL_CERT_FILE=$trusted tell
[ "$(value governance posted) $(value governance announced)" = '300 3' ] || fail "governance: $(value governance)"
SSL_CERT_FILE=$certificates/stranger.pem tell
[ "$(value governance posted) $(value governance announced)" = '0 0' ] || fail "governance: $(value governance)"
value governance last_error | grep -qiE 'unknown ?issuer' || fail "governance: $(value governance)"

# Plain HTTP behind https is no handshake.
python3 -c 'import http.server
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(server.server_address[1], flush=True)
server.serve_forever()' >"$work/plain" 2>/dev/null &
pids+=("$!")
for _ in {1..200}; do
    if [ -s "$work/plain" ]; then break; fi
    sleep 0.05
done
run 5 "$(<"$work/plain")" 'TLS' --tls-ca "$certificates/ca.pem" --records 1

# s_server NAME FLAG…: what it hears goes to $work/NAME.heard, what is written to descriptor 9 is what it says.
s_server() {
    local name=$1
    shift
    rm -f "$work/say"
    mkfifo "$work/say"
    openssl s_server -quiet -accept "127.0.0.1:$openssl_port" -cert "$certificates/server.pem" \
        -key "$certificates/server.key" "$@" <"$work/say" >"$work/$name.heard" 2>"$work/$name.log" &
    openssl_pid=$!
    pids+=("$openssl_pid")
    exec 9>"$work/say"
    reachable_quietly
}

# A connection of ours would be served: the kernel is asked instead.
reachable_quietly() {
    local hex
    hex=$(printf '%04X' "$openssl_port")
    for _ in {1..200}; do
        if grep -q ":$hex 00000000:0000 0A" /proc/net/tcp; then return; fi
        kill -0 "$openssl_pid" 2>/dev/null || fail 's_server did not start'
        sleep 0.05
    done
    fail 's_server does not listen'
}

echo '== openssl s_server'
s_server plain
"$engine" --target "https://localhost:$openssl_port/in" --tls-ca "$certificates/ca.pem" --records 3 --payload-size 20000 \
    --report "$work/report.json" >"$work/run.log" 2>&1 &
sender=$!
pids+=("$sender")
for answered in 1 2 3; do
    for _ in {1..500}; do
        if python3 -c 'import sys
heard = open(sys.argv[1], "rb").read()
head = heard.find(b"\r\n\r\n") + 4
sys.exit(head < 4 or len(heard) < int(sys.argv[2]) * (head + 20000))' "$work/plain.heard" "$answered"; then break; fi
        sleep 0.02
    done
    printf 'HTTP/1.1 204 No Content\r\n\r\n' >&9
done
status=0
wait "$sender" || status=$?
[ "$status" = 0 ] || fail "the run to s_server ended with $status"
[ "$(value totals records_produced)" = 3 ] || fail 's_server has not confirmed three records'
exec 9>&-
kill "$openssl_pid" 2>/dev/null || true
wait "$openssl_pid" || true
heads=$(grep -ac '^POST /in HTTP/1.1' "$work/plain.heard" || true)
[ "$heads" -ge 1 ] || fail 's_server has heard no request'

# It ends the handshake without the client's certificate: with TLS 1.2 the client knows that before it starts.
s_server strict -tls1_2 -Verify 1 -CAfile "$certificates/ca.pem"
run 5 "$openssl_port" 'certificate|handshake' --tls-ca "$certificates/ca.pem" --records 1
exec 9>&-
kill "$openssl_pid" 2>/dev/null || true
echo 'TLS: as it should be'
