#!/usr/bin/env bash
# Everything that must hold before a change is merged. Quiet unless something fails.
#
#   scripts/test.sh            checks, tests and black-box runs
#   INSTALL=0 scripts/test.sh  installs nothing: a missing tool is an error that names its package
#   PERF_SMOKE=0 scripts/test.sh  no benchmarks
#   PERF_SMOKE_ROWS='null file' scripts/test.sh  these rows of them (perf/run.py list), not all
#   ROUNDS=20 SECURE_ROUNDS=10 scripts/test.sh  all seeded rounds of tests/blackbox/kafka_faults.sh, not three of each
#   STRICT=1 scripts/test.sh   a check whose tools cannot be fetched, or that is left out, fails; without, it is named at
#                              the end, as is, with STRICT=1 too, what the host itself refuses in a black-box run
set -euo pipefail
cd "$(dirname "$0")/.."
# Debian's users have no nginx and no ethtool in theirs.
export PATH=$PATH:/usr/sbin:/sbin

log=$(mktemp)
deny_log=$(mktemp)
trap 'rm -f "$log" "$deny_log"; [ -z "${fetching:-}" ] || kill -- "-$fetching" 2>/dev/null || true' EXIT
started=$SECONDS
not_checked=()

# step NAME COMMAND…: runs it, shows its output only if it fails.
step() {
    local name=$1 from=$SECONDS status
    shift
    printf '%-44s' "$name"
    # Not in a condition: there, -e would be off in everything that the command calls.
    set +e
    (set -e; "$@") >"$log" 2>&1
    status=$?
    set -e
    if [ "$status" = 0 ]; then
        printf 'ok %4ds\n' $((SECONDS - from))
    else
        printf 'FAILED\n\n'
        cat "$log"
        printf '\n%s: failed: %s\n' "$name" "$*"
        exit 1
    fi
}

# skip WHAT: it cannot be checked here.
skip() {
    if [ "${STRICT:-0}" = 1 ]; then
        printf 'not checked, which is an error here: %s\n' "$1"
        exit 1
    fi
    not_checked+=("$1")
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# The Debian packages of the tools that are missing, one a line.
missing_packages() {
    local tool package
    while read -r tool package; do
        command -v "$tool" >/dev/null || echo "$package"
    done <<'TOOLS'
cc gcc
shellcheck shellcheck
fio fio
promtool prometheus
kcat kcat
mvn maven
openssl openssl
python3 python3
node nodejs
npm npm
wrk wrk
jq jq
ethtool ethtool
ip iproute2
systemd-analyze systemd
nginx nginx
iperf3 iperf3
java default-jdk-headless
TOOLS
    echo '#include <librdkafka/rdkafka.h>' | cc -E - >/dev/null 2>&1 || echo librdkafka-dev
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    [ -x /usr/bin/time ] || echo time
}

# Installs what is missing, or names it.
tools() {
    local packages
    mapfile -t packages < <(missing_packages)
    if [ "${#packages[@]}" = 0 ]; then return; fi
    if [ "${INSTALL:-1}" != 1 ] || ! command -v apt-get >/dev/null || ! as_root true; then
        echo "tools are missing; install them: sudo apt-get install ${packages[*]}"
        return 1
    fi
    as_root apt-get -qq update
    # Behind sudo, which passes no variables on.
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends --yes "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    if [ "${#packages[@]}" != 0 ]; then
        echo "installed, and yet their tools are not found in $PATH: ${packages[*]}"
        return 1
    fi
}

shell_scripts() {
    local scripts=()
    mapfile -t scripts < <(git ls-files -co --exclude-standard '*.sh' .ci/run)
    shellcheck "${scripts[@]}"
}

python_scripts() {
    local scripts=()
    mapfile -t scripts < <(git ls-files -co --exclude-standard '*.py')
    python3 - "${scripts[@]}" <<'PYTHON'
import sys
for path in sys.argv[1:]:
    compile(open(path, encoding="utf-8").read(), path, "exec")
PYTHON
    python3 -m unittest discover --quiet --start-directory perf
}

# Licences, sources and duplicates need no network; the advisories do.
dependencies() {
    cargo deny --locked --all-features check --hide-inclusion-graph licenses bans sources
}

# beside COMMAND…: starts what measures nothing and waits for nothing, so that it takes what others leave of the
# processors.
beside() {
    beside_log=$(mktemp)
    # A group of its own, so that what it started ends with it.
    set -m
    nice -n 19 "$@" </dev/null >"$beside_log" 2>&1 &
    set +m
    beside_pid=$!
    trap '[ -z "$beside_pid" ] || kill -- "-$beside_pid" 2>/dev/null || true; rm -f "$beside_log"' EXIT
}

# Waits for it and shows what it said.
beside_ended() {
    local status=0
    wait "$beside_pid" || status=$?
    # Its number may be another process's by the end.
    beside_pid=
    cat "$beside_log"
    return "$status"
}

# The simulated runs have clocks of their own.
tests() {
    local path others=() status=0
    for path in tests/*.rs; do
        path=$(basename "$path" .rs)
        case $path in sim | pacing_sim) ;; *) others+=(--test "$path") ;; esac
    done
    beside cargo test --locked --quiet --no-fail-fast --test sim --test pacing_sim
    cargo test --locked --quiet --no-fail-fast --lib --bins "${others[@]}" || status=$?
    cargo test --locked --quiet --doc || status=$?
    beside_ended || status=$?
    return "$status"
}

black_box() {
    local script alone=tests/blackbox/tune_host.sh
    beside bash "$alone" "$PWD/engine"
    for script in tests/blackbox/*.sh; do
        if [ "$script" = "$alone" ]; then continue; fi
        echo "== $script"
        bash "$script" "$PWD/engine"
    done
    echo "== $alone"
    beside_ended
}

install_cargo_deny() {
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --quiet --debug cargo-deny
}

# What the later steps need of the registries of Python, Node, Go, Maven and Rust, while the compiler works, which is on
# one core for half of the time. Each of them asks again and then says what could not be had; none asks for cargo-deny.
fetch_peers() {
    if [ "${INSTALL_CARGO_DENY:-0}" = 1 ] && ! cargo deny --version >/dev/null 2>&1; then
        { install_cargo_deny || install_cargo_deny; } >"$deny_log" 2>&1 &
    fi
    scripts/check-formats.sh --prepare || true
    scripts/check-deploy.sh --prepare || true
    tests/blackbox/prism.sh --prepare || true
    scripts/kafka.sh fetch || true
    wait
}

# What incremental builds keep for next time costs a first one a fifth.
if [ ! -d "${CARGO_TARGET_DIR:-target}/debug/incremental" ]; then export CARGO_INCREMENTAL=0; fi

[ "${PERF_SMOKE:-1}" = 1 ] || skip 'benchmarks: PERF_SMOKE=0'
step 'tools' tools
fetching=
if [ "${INSTALL:-1}" = 1 ]; then
    # A group of its own, so that what it started ends with it.
    set -m
    fetch_peers </dev/null >/dev/null 2>&1 &
    set +m
    fetching=$!
fi
step 'format' cargo fmt --check
step 'shellcheck' shell_scripts
step 'python' python_scripts
step 'clippy' cargo clippy --locked --all-targets --quiet -- -D warnings
step 'test build' cargo test --locked --quiet --no-run
if [ -n "$fetching" ]; then
    wait "$fetching" || true
    # Its number may be another process's by the end.
    fetching=
fi
if cargo deny --version >/dev/null 2>&1; then
    step 'dependencies: licences, sources' dependencies
    if cargo deny --locked --all-features check advisories >"$log" 2>&1; then
        echo 'dependencies: advisories                    ok'
    elif grep -qE 'failed to (fetch|acquire|load|open)|unable to (fetch|clone|find)|fetch advisory' "$log"; then
        not_checked+=('advisories: the database could not be fetched')
    else
        cat "$log"
        exit 1
    fi
else
    no_deny=$(tail -1 "$deny_log")
    skip "licences and advisories: cargo-deny is not installed (${no_deny:-INSTALL_CARGO_DENY=1 scripts/test.sh})"
fi
step 'tests' tests
passed=$(awk '/^test result: ok/ { passed += $4 } END { print passed + 0 }' "$log")
step "${BUILD_PROFILE:-release} build" scripts/build.sh
if compgen -G 'tests/blackbox/*.sh' >/dev/null; then
    step 'black box' black_box
    # What a host refuses by itself no tool mends, so it is no error, as STRICT=1 would make it.
    while IFS= read -r line; do not_checked+=("black box: $line"); done < <(sed -n 's/^ *not checked: //p' "$log")
fi
# Only fetching may fail without failing everything: the readers and validators are in the registries of Python, Node
# and Go.
if scripts/check-formats.sh --prepare >"$log" 2>&1; then
    step 'formats, by foreign readers' scripts/check-formats.sh ./engine
else
    skip "formats by foreign readers: $(tail -1 "$log")"
fi
if scripts/check-deploy.sh --prepare >"$log" 2>&1; then
    step 'image, compose, Kubernetes: validators' scripts/check-deploy.sh ./engine
else
    skip "compose and Kubernetes by foreign validators: $(tail -1 "$log")"
    step 'image, rules' scripts/check-deploy.sh --here ./engine
fi
if [ "${PERF_SMOKE:-1}" = 1 ]; then
    # Every benchmark row, tiny: shows that it still runs, says nothing about speed.
    read -ra rows <<<"${PERF_SMOKE_ROWS:-all}"
    step 'benchmarks still run' perf/run.py --smoke "${rows[@]}"
    while IFS= read -r line; do skip "benchmark $line"; done < <(sed -n 's/^ *not checked: //p' "$log")
fi
for what in "${not_checked[@]}"; do printf 'not checked: %s\n' "$what"; done
printf 'all passed in %d s\n' $((SECONDS - started))
printf '%d passed, 0 failed\n' "$passed"
