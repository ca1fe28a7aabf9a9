# shellcheck shell=bash
# What the black-box tests against a real Apache Kafka share: its tools, and an end that stops their clusters. Sourced
# at the root of the project.

# shellcheck source=tests/blackbox/common/scratch.sh
. tests/blackbox/common/scratch.sh
need 'default-jre-headless maven kcat openssl python3' java mvn kcat openssl python3
# Java that starts quickly, on few processors.
export JAVA_TOOL_OPTIONS='-XX:TieredStopAtLevel=1 -XX:+UseSerialGC'
export KAFKA_DIR=$work/kafka
clusters=("$KAFKA_DIR")

finish() {
    local cluster
    # Told again by clean_up: whoever drains to a broker that is gone ends at the second signal.
    end_started
    for cluster in "${clusters[@]}"; do KAFKA_DIR=$cluster scripts/kafka.sh stop || true; done
    clean_up
}
trap finish EXIT

java_kafka() {
    java -cp "$KAFKA_CLASSPATH" -Dorg.slf4j.simpleLogger.defaultLogLevel=error "$@"
}
