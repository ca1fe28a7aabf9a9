#!/usr/bin/env bash
# A real Apache Kafka on this machine, for tests: 4.3.1 in KRaft mode, from Maven artifacts, no container needed.
#
#   eval "$(scripts/kafka.sh start [--brokers 1|3] [--port PORT] [--property KEY=VALUE]…)"
#   scripts/kafka.sh status          who runs and who answers; exit code 0 if all do, else 1
#   scripts/kafka.sh kill N          SIGKILL to broker N (from 1)
#   scripts/kafka.sh restart N…|all  starts brokers again with their data, after killing what is left of them. After all
#                                    were killed name them at once: none answers before most of them are there. (start
#                                    begins anew then)
#   scripts/kafka.sh stop            ends all brokers and removes their data; logs and artifacts stay
#   scripts/kafka.sh fetch           only fetches the artifacts
#
# start prints shell assignments; a cluster that runs already is left as it is and its assignments are printed again. A
# start that fails, or that Ctrl-C ends, leaves nothing running that it began.
# Listeners, all on 127.0.0.1 and on ports that were free: plain (--port: of the first broker there), TLS, TLS with
# client certificates, SASL over plain TCP and SASL over TLS (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER with
# unsecured tokens).
# State is under KAFKA_DIR (target/kafka), jars under KAFKA_LIBS (target/kafka-libs); KAFKA_HEAP_OPTS is the JVM's.
set -euo pipefail
root=$(realpath "$(dirname "$0")/..")
dir=$(realpath -m "${KAFKA_DIR:-$root/target/kafka}")
libs=$(realpath -m "${KAFKA_LIBS:-$root/target/kafka-libs}")
cd "$root"
wait_seconds=${KAFKA_WAIT_SECONDS:-120}
user=engine
# As a user has to call it for this cluster.
self=scripts/kafka.sh
if [ -n "${KAFKA_DIR:-}" ]; then self="KAFKA_DIR=$(printf %q "$dir") $self"; fi

die() {
    printf 'kafka.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

usage() {
    die "$1; usage: scripts/kafka.sh start [--brokers 1|3] [--port PORT] [--property KEY=VALUE]… | stop | status | kill N | restart N…|all | fetch" 2
}

# For who watches: standard output is evaluated, and a log needs no progress.
note() {
    [ ! -t 2 ] || printf 'kafka.sh: %s\n' "$1" >&2
}

need() {
    command -v "$1" >/dev/null || die "$1 is missing; install it: sudo apt-get install $2" 3
}

# Kafka reads its properties as ISO-8859-1 with escapes, and log.dirs as a list.
check_paths() {
    local LC_ALL=C
    [[ $dir != *[!\ -~]* && $dir != *[,\\]* ]] ||
        die "KAFKA_DIR '$dir' has a character that Kafka's properties cannot have; name a folder without ',' and '\\', in ASCII" 2
    [[ $libs != *:* ]] || die "KAFKA_LIBS '$libs' has a ':', which ends a path for Java; name another folder" 2
}

is_empty() {
    [ -z "$(ls -A "$1" 2>/dev/null)" ]
}

# The jars are copied once; what Maven has already needs no network. Clusters in several folders share them.
fetch() {
    [ -e "$libs/complete" ] && return
    mkdir -p "$(dirname "$libs")"
    exec 8>"$libs.lock"
    flock -w "$((wait_seconds * 2))" 8 || die "another kafka.sh has been fetching into $libs for long"
    if ! [ -e "$libs/complete" ]; then copy_jars; fi
    exec 8>&-
}

copy_jars() {
    is_empty "$libs" || die "KAFKA_LIBS '$libs' has files that are not this script's; name an empty folder, or none" 2
    need mvn maven
    local copy=(mvn -q -B -Dstyle.color=never -f scripts/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$libs.part")
    rm -rf "$libs.part"
    note 'fetching Apache Kafka with Maven, once'
    if ! "${copy[@]}" -o >/dev/null 2>&1; then
        rm -rf "$libs.part"
        "${copy[@]}" >&2 || die 'Maven could not fetch Apache Kafka; it needs its repository once'
    fi
    touch "$libs.part/complete"
    if [ -e "$libs" ]; then rmdir "$libs"; fi
    mv "$libs.part" "$libs"
}

# free_ports COUNT [WANTED]: ports below those that the kernel gives to clients, so that a killed broker finds its own
# again; the first is WANTED, if that is free.
free_ports() {
    python3 - "$@" <<'PYTHON'
import random, socket, sys
with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
    top = int(limits.read().split()[0])
held = []
wanted = [int(port) for port in sys.argv[2:]]
for port in wanted + random.sample(range(10000, top) if top > 12000 else range(62000, 65535), 2000):
    if len(held) == int(sys.argv[1]):
        break
    peer = socket.socket()
    if port in wanted:
        # As the broker does: connections that were closed lately do not count.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        peer.bind(("127.0.0.1", port))
    except OSError:
        continue
    held.append(peer)
print(*(peer.getsockname()[1] for peer in held))
PYTHON
}

# certificate NAME SUBJECT EXTENSIONS: NAME.key and NAME.pem, signed by the CA of this cluster.
certificate() {
    openssl req -new -newkey rsa:2048 -nodes -keyout "$dir/$1.key" -subj "$2" 2>/dev/null |
        openssl x509 -req -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -days 3650 -out "$dir/$1.pem" \
            -extfile <(printf '%s\n' "$3") 2>/dev/null
}

secrets() {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/ca.key" -out "$dir/ca.pem" -days 3650 \
        -subj '/CN=engine test CA' -addext 'keyUsage=critical,keyCertSign,cRLSign' 2>/dev/null
    certificate server '/CN=localhost' 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1'
    certificate client "/CN=$user" 'extendedKeyUsage=clientAuth'
    cat "$dir/server.key" "$dir/server.pem" >"$dir/server.both.pem"
    cat "$dir/client.key" "$dir/client.pem" >"$dir/client.both.pem"
    openssl rand -hex 12 >"$dir/password"
    local head claims now
    now=$(date +%s)
    head=$(printf '{"alg":"none"}' | base64url)
    claims=$(printf '{"sub":"%s","iat":%s,"exp":%s}' "$user" "$now" $((now + 315360000)) | base64url)
    printf '%s.%s.\n' "$head" "$claims" >"$dir/token"
}

base64url() {
    openssl base64 -A | tr '+/' '-_' | tr -d '='
}

# server_properties N: what broker N is configured with.
server_properties() {
    local n=$1 brokers=${#port_plain[@]} at voters='' password listener listeners=''
    password=$(cat "$dir/password")
    for ((at = 1; at <= brokers; at++)); do voters+="${voters:+,}$at@127.0.0.1:${port_controller[at - 1]}"; done
    for listener in PLAINTEXT:plain TLS:tls MTLS:mtls SASL:sasl SASLPLAIN:saslplain; do
        local -n ports="port_${listener#*:}"
        listeners+="${listeners:+,}${listener%:*}://127.0.0.1:${ports[n - 1]}"
    done
    cat <<PROPERTIES
process.roles=broker,controller
node.id=$n
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=$listeners,CONTROLLER://127.0.0.1:${port_controller[n - 1]}
advertised.listeners=$listeners
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MTLS:SSL,SASL:SASL_SSL,SASLPLAIN:SASL_PLAINTEXT
log.dirs=$dir/$n/data
ssl.keystore.type=PEM
ssl.keystore.location=$dir/server.both.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/ca.pem
listener.name.mtls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
PROPERTIES
    local modules=org.apache.kafka.common.security
    for listener in sasl saslplain; do
        cat <<PROPERTIES
listener.name.$listener.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required user_$user="$password";
listener.name.$listener.scram-sha-256.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.$listener.scram-sha-512.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.$listener.oauthbearer.sasl.jaas.config=$modules.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="$user";
PROPERTIES
    done
    # A small heap, quick fail-over, and no topic that nobody asked for.
    cat <<PROPERTIES
default.replication.factor=$brokers
min.insync.replicas=$((brokers / 2 + 1))
offsets.topic.replication.factor=$brokers
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=$brokers
transaction.state.log.min.isr=$((brokers / 2 + 1))
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=$brokers
share.coordinator.state.topic.min.isr=$((brokers / 2 + 1))
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
    printf '%s\n' "${properties[@]}"
}

# client_properties NAME PROTOCOL [MECHANISM MODULE OPTIONS]: a file that Kafka's own tools read.
client_properties() {
    {
        printf 'security.protocol=%s\nssl.truststore.type=PEM\nssl.truststore.location=%s\n' "$2" "$dir/ca.pem"
        if [ $# -gt 2 ]; then
            printf 'sasl.mechanism=%s\nsasl.jaas.config=org.apache.kafka.common.security.%s required %s;\n' "$3" "$4" "$5"
        fi
    } >"$dir/$1.properties"
}

clients() {
    local login
    login="username=\"$user\" password=\"$(cat "$dir/password")\""
    client_properties tls SSL
    client_properties mtls SSL
    printf 'ssl.keystore.type=PEM\nssl.keystore.location=%s\n' "$dir/client.both.pem" >>"$dir/mtls.properties"
    client_properties sasl-plain SASL_SSL PLAIN plain.PlainLoginModule "$login"
    client_properties sasl-scram-256 SASL_SSL SCRAM-SHA-256 scram.ScramLoginModule "$login"
    client_properties sasl-scram-512 SASL_SSL SCRAM-SHA-512 scram.ScramLoginModule "$login"
    client_properties sasl-oauth SASL_SSL OAUTHBEARER oauthbearer.OAuthBearerLoginModule "unsecuredLoginStringClaim_sub=\"$user\""
}

assign() {
    printf 'export %s=%q\n' "$1" "$2"
}

# bootstrap NAME PORT…: an assignment of all brokers.
bootstrap() {
    local name=$1 list
    shift
    list=$(printf ',127.0.0.1:%s' "$@")
    assign "$name" "${list#,}"
}

assignments() {
    assign KAFKA_DIR "$dir"
    assign KAFKA_CLASSPATH "$libs/*"
    assign KAFKA_BROKERS "${#port_plain[@]}"
    bootstrap KAFKA_BOOTSTRAP "${port_plain[@]}"
    bootstrap KAFKA_TLS_BOOTSTRAP "${port_tls[@]}"
    bootstrap KAFKA_MTLS_BOOTSTRAP "${port_mtls[@]}"
    bootstrap KAFKA_SASL_BOOTSTRAP "${port_sasl[@]}"
    bootstrap KAFKA_SASL_PLAINTEXT_BOOTSTRAP "${port_saslplain[@]}"
    assign KAFKA_CA "$dir/ca.pem"
    assign KAFKA_CLIENT_CERT "$dir/client.pem"
    assign KAFKA_CLIENT_KEY "$dir/client.key"
    assign KAFKA_SASL_USER "$user"
    assign KAFKA_SASL_PASSWORD_FILE "$dir/password"
    assign KAFKA_SASL_TOKEN_FILE "$dir/token"
    assign KAFKA_TLS_PROPERTIES "$dir/tls.properties"
    assign KAFKA_SASL_PROPERTIES "$dir/sasl-scram-512.properties"
}

java_kafka() {
    java -cp "$libs/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn "$@"
}

# The process of broker N: a Kafka with just its properties, whatever has become of the files here.
pid_of() {
    local file
    while read -r file; do
        if grep -qzxF kafka.Kafka "$file" 2>/dev/null; then
            file=${file%/cmdline}
            echo "${file#/proc/}"
            # Said, since in a trap it would be the status from before.
            return 0
        fi
    done < <(grep -lzxF "$dir/$1/server.properties" /proc/[0-9]*/cmdline 2>/dev/null)
    return 1
}

launch() {
    local n=$1 heap
    read -ra heap <<<"${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m}"
    # Not the lock: it would outlive this script.
    setsid java -cp "$libs/*" "${heap[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -Dorg.slf4j.simpleLogger.showDateTime=true kafka.Kafka "$dir/$n/server.properties" \
        </dev/null >>"$dir/$n/server.log" 2>&1 9>&- &
    echo $! >"$dir/$n/pid"
    # Until it has become one.
    until pid_of "$n" >/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
}

# await N WANTED: until broker N answers and knows of WANTED brokers.
await() {
    local n=$1 until=$((SECONDS + wait_seconds))
    until python3 scripts/kafka/answers.py "${port_plain[n - 1]}" "$2"; do
        if ! pid_of "$n" >/dev/null; then
            tail -n 20 "$dir/$n/server.log" >&2
            die "broker $n ended; its log is $dir/$n/server.log"
        fi
        [ $SECONDS -lt $until ] || die "broker $n did not answer within $wait_seconds s; its log is $dir/$n/server.log"
        sleep 0.2
    done
}

end() {
    local n=$1 pid until=$((SECONDS + 30))
    while pid=$(pid_of "$n"); do
        [ $SECONDS -lt $until ] || die "broker $n does not end; it is process $pid"
        kill -KILL "$pid" 2>/dev/null || true
        sleep 0.1
    done
    # As in create: without its properties the folder is somebody else's.
    if [ -e "$dir/$n/server.properties" ]; then rm -f "$dir/$n/pid"; fi
}

# Nothing that this start has launched outlives it.
undo() {
    local status=$? pid
    trap '' INT TERM HUP
    for pid in $(jobs -pr); do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    running || stop
    exit "$status"
}

# Ports and properties of the cluster, as `start` chose them.
load() {
    [ -e "$dir/cluster" ] || return 1
    # shellcheck disable=SC1091  # written by create
    . "$dir/cluster"
}

running() {
    local n
    for ((n = 1; n <= ${#port_plain[@]}; n++)); do pid_of "$n" >/dev/null && return 0; done
    return 1
}

create() {
    local brokers=$1 port=$2 n id password ports
    # Their keys and data would be overwritten.
    for n in {1..9}; do
        if pid_of "$n" >/dev/null; then die "broker $n of a cluster that is lost runs in $dir; end it first: $self stop"; fi
    done
    # KAFKA_DIR may have folders of others: what is a broker's has its properties.
    for n in "$dir"/[1-9]; do
        if [ -e "$n/server.properties" ]; then rm -rf "$n"; fi
    done
    for ((n = 1; n <= brokers; n++)); do
        is_empty "$dir/$n" || die "KAFKA_DIR '$dir' has a folder '$n' that is not this script's; name another folder" 2
    done
    rm -f "$dir/cluster"
    note "making keys and the brokers' folders in $dir"
    secrets
    read -ra ports <<<"$(free_ports $((brokers * 6)) ${port:+"$port"})"
    [ "${ports[0]:-}" = "${port:-${ports[0]:-}}" ] || die "--port $port is taken; find who has it: ss -ltnp 'sport = :$port'" 3
    [ ${#ports[@]} = $((brokers * 6)) ] || die 'not enough free ports on 127.0.0.1' 3
    port_plain=("${ports[@]:0:brokers}")
    port_controller=("${ports[@]:brokers:brokers}")
    port_tls=("${ports[@]:2*brokers:brokers}")
    port_mtls=("${ports[@]:3*brokers:brokers}")
    port_sasl=("${ports[@]:4*brokers:brokers}")
    port_saslplain=("${ports[@]:5*brokers:brokers}")
    clients
    # The first byte is zero: an id that began with '-' would be read as an option.
    id=$({ printf '\0'; openssl rand 15; } | base64url)
    password=$(cat "$dir/password")
    for ((n = 1; n <= brokers; n++)); do
        mkdir -p "$dir/$n"
        server_properties "$n" >"$dir/$n/server.properties"
        java_kafka kafka.tools.StorageTool format -t "$id" -c "$dir/$n/server.properties" \
            --add-scram "SCRAM-SHA-256=[name=$user,password=$password]" \
            --add-scram "SCRAM-SHA-512=[name=$user,password=$password]" >"$dir/$n/server.log" 2>&1 ||
            { cat "$dir/$n/server.log" >&2; die "broker $n could not be formatted"; }
    done
    # Global, since they are read back inside a function.
    declare -p port_controller port_plain port_tls port_mtls port_sasl port_saslplain properties |
        sed 's/^declare /declare -g /' >"$dir/cluster.part"
    mv "$dir/cluster.part" "$dir/cluster"
}

start() {
    local brokers='' port='' n new=()
    properties=()
    while [ $# -gt 0 ]; do
        case $1 in
            --brokers=*) brokers=${1#*=} ;;
            --port=*) port=${1#*=} ;;
            --property=*) new+=("${1#*=}") ;;
            --brokers | --port | --property)
                [ $# -gt 1 ] || usage "$1 has no value"
                case $1 in --brokers) brokers=$2 ;; --port) port=$2 ;; *) new+=("$2") ;; esac
                shift
                ;;
            *) usage "'$1' is no option" ;;
        esac
        shift
    done
    [[ ${brokers:-1} =~ ^[13]$ ]] || usage "--brokers '$brokers' is neither 1 nor 3"
    [[ ${port:-1} =~ ^[1-9][0-9]{0,4}$ && ${port:-1} -le 65535 ]] || usage "--port '$port' is no number from 1 to 65535"
    for n in "${new[@]}"; do [[ $n == ?*=* ]] || usage "--property '$n' is not KEY=VALUE"; done
    need java default-jre-headless
    need openssl openssl
    need python3 python3
    fetch
    if load && running; then
        if [ "${brokers:-${#port_plain[@]}}" != ${#port_plain[@]} ] || [ "${port:-${port_plain[0]}}" != "${port_plain[0]}" ] || { [ ${#new[@]} != 0 ] && [ "${new[*]}" != "${properties[*]}" ]; }; then
            die "a cluster of another kind is running in $dir; end it first: $self stop"
        fi
    else
        properties=("${new[@]}")
        create "${brokers:-1}" "$port"
    fi
    trap undo EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    for ((n = 1; n <= ${#port_plain[@]}; n++)); do pid_of "$n" >/dev/null || launch "$n"; done
    note "waiting until all brokers answer, $wait_seconds s at most; their logs are $dir/*/server.log"
    for ((n = 1; n <= ${#port_plain[@]}; n++)); do await "$n" ${#port_plain[@]}; done
    trap - EXIT HUP INT TERM
    assignments
}

status() {
    load || die "no cluster under $dir; start one: $self start"
    local n pid all=0
    for ((n = 1; n <= ${#port_plain[@]}; n++)); do
        if ! pid=$(pid_of "$n"); then
            echo "broker $n: not running"
            all=1
        elif python3 scripts/kafka/answers.py "${port_plain[n - 1]}" 1; then
            echo "broker $n: process $pid answers on 127.0.0.1:${port_plain[n - 1]}"
        else
            echo "broker $n: process $pid does not answer on 127.0.0.1:${port_plain[n - 1]}"
            all=1
        fi
    done
    return $all
}

# Also what is left of a cluster whose file is gone.
stop() {
    local n
    for n in {1..9}; do
        end "$n"
        if [ -e "$dir/$n/server.properties" ]; then rm -rf "$dir/$n/data"; fi
    done
    rm -f "$dir/cluster"
}

broker() {
    load || die "no cluster under $dir; start one: $self start"
    if ! [[ ${1:-} =~ ^[1-9]$ ]] || [ "$1" -gt ${#port_plain[@]} ]; then
        usage "'${1:-}' is no broker from 1 to ${#port_plain[@]}"
    fi
}

# restart N…|all: all are started before one is waited for.
restart() {
    local n brokers=("${@:-}")
    if [ "$*" = all ] && load; then mapfile -t brokers < <(seq ${#port_plain[@]}); fi
    for n in "${brokers[@]}"; do broker "$n"; done
    for n in "${brokers[@]}"; do end "$n"; done
    for n in "${brokers[@]}"; do pid_of "$n" >/dev/null || launch "$n"; done
    for n in "${brokers[@]}"; do await "$n" 1; done
}

# One at a time.
lock() {
    exec 9>"$dir/lock"
    flock -w "$((wait_seconds * 2))" 9 || die "another kafka.sh has been at work on $dir for long"
}

case ${1:-} in
    start | restart) ;;
    kill) [ $# -le 2 ] || usage "kill takes one broker, not '${*:2}'" ;;
    stop | status | fetch) [ $# = 1 ] || usage "$1 takes nothing more, not '${*:2}'" ;;
    *) usage "'${1:-}' is no command" ;;
esac
check_paths
case $1 in
    start)
        shift
        mkdir -p "$dir"
        lock
        start "$@"
        ;;
    stop)
        if [ -d "$dir" ]; then lock; fi
        stop
        ;;
    fetch) fetch ;;
    status) status ;;
    kill)
        if [ -d "$dir" ]; then lock; fi
        broker "${2:-}"
        end "$2"
        ;;
    restart)
        shift
        if [ -d "$dir" ]; then lock; fi
        restart "$@"
        ;;
esac
