# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # shared with scratch.sh and the scripts
# An nginx of the script's own, in $work. Sourced behind scratch.sh.

# nginx_conf: writes its configuration. What belongs into the block `http` comes from standard input, with the format
# `books` of its log.
nginx_conf() {
    local http
    http=$(cat)
    cat >"$work/nginx.conf" <<CONF
daemon off;
# Started by root its workers would be somebody else, who may not write here.
user $(id -un) $(id -gn);
worker_processes 1;
error_log "$work/error.log" warn;
pid "$work/nginx.pid";
events { worker_connections 256; }
http {
    client_body_temp_path "$work/body";
    proxy_temp_path "$work/proxy";
    fastcgi_temp_path "$work/fastcgi";
    uwsgi_temp_path "$work/uwsgi";
    scgi_temp_path "$work/scgi";
    client_max_body_size 64m;
$http
    access_log "$work/access.log" books;
}
CONF
}

# start_nginx PORT: as $nginx_pid; when this returns it answers on PORT.
start_nginx() {
    nginx -e "$work/start.log" -p "$work" -c "$work/nginx.conf" &
    nginx_pid=$!
    pids+=("$nginx_pid")
    for _ in {1..200}; do
        if python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1)" 2>/dev/null; then return; fi
        kill -0 "$nginx_pid" 2>/dev/null || fail 'nginx did not start'
        sleep 0.05
    done
    fail 'nginx does not listen'
}
