#!/usr/bin/env bash
# Is the engine of this container alive? Asks /health where ENGINE_METRICS_ADDR says that it is served; without such
# an address there is nobody to ask, and the answer is yes. So it is for the commands that serve none.
#
#   healthcheck.sh [PID]    1 unless given
set -euo pipefail

mapfile -d '' words <"/proc/${1:-1}/cmdline"
command=${words[1]:-}
# Behind an init process (docker run --init) the engine's words come after those of init.
for at in "${!words[@]}"; do
    case ${words[at]} in engine | */engine) command=${words[at + 1]:-} && break ;; esac
done
case $command in receive | saturate | verify) exit 0 ;; esac

address=${ENGINE_METRICS_ADDR:-}
if [ -z "$address" ]; then exit 0; fi
port=${address##*:}
host=${address%:*}
host=${host//[\[\]]/}
case $host in '' | 0.0.0.0 | ::) host=127.0.0.1 ;; esac

exec 3<>"/dev/tcp/$host/$port"
printf 'GET /health HTTP/1.0\r\nHost: %s\r\n\r\n' "$host" >&3
IFS=' ' read -r -t 2 _ status _ <&3
[ "$status" = 200 ]
