#!/usr/bin/env bash
# tune-host.sh on this kernel, in a network namespace with virtual cards: what tune_host.sh starts there. Lines that it
# shows begin with "this kernel: ".
#
#   in_namespace.sh TUNE_HOST ENGINE FOLDER root|somebody
set -euo pipefail
shopt -s nullglob
tune=$1 engine=$2 folder=$3 who=$4
export ENGINE_TUNING_STATE=$folder/state
ipv6_mtu=/proc/sys/net/ipv6/conf/load0/mtu
trap 'exit 143' INT TERM HUP

stop() {
    echo "$1"
    exit 1
}

# One card with segmentation off, one that waits for checksums with it, one that waits for scatter-gather.
make_cards() {
    local at
    ip link set lo up
    for at in 0 2 4; do ip link add "load$at" type veth peer name "load$((at + 1))"; done
    ip link set load0 txqueuelen 777 mtu 1400
    ethtool -K load0 tso off gso off
    ethtool -K load2 tx off
    ethtool -K load4 sg off
    for at in {0..5}; do ip link set "load$at" up; done
    # The kernel says so a moment later.
    for _ in {1..200}; do
        [ "$(</sys/class/net/load0/operstate)" != up ] || break
        sleep 0.05
    done
    # A card that comes up has its own for IPv6, too.
    [ ! -e "$ipv6_mtu" ] || echo 1300 >"$ipv6_mtu"
    echo '4096 16384 4194304' >/proc/sys/net/ipv4/tcp_wmem
    echo 1 >/proc/sys/net/ipv4/tcp_slow_start_after_idle
}

# texts FILE…: each with its bytes, those that cannot be read without.
texts() {
    local file
    for file in "$@"; do echo "$file $({ base64 -w0 <"$file"; } 2>/dev/null)"; done
}

values() {
    local card
    texts /proc/sys/net/ipv4/tcp_* "$ipv6_mtu" /sys/class/net/load[024]/{mtu,tx_queue_len} |
        grep -v -e tcp_fastopen_key -e tcp_available
    for card in load0 load2 load4; do
        ethtool -k "$card"
        ethtool -g "$card" 2>&1 || true
    done
}

holds() {
    [ "$(<"$1")" = "$2" ] || stop "$1 is '$(<"$1")', not '$2'"
}

# segments CARD on|off: one feature of those that the name stands for; newer kernels have some that need nothing else.
segments() {
    ethtool -k "$1" | grep -xE $'\ttx-tcp-segmentation: '"$2( \[requested on\])?" || stop "$1: segmentation is not $2"
}

# judged VERDICT ITEM…: what the engine's doctor makes of it.
judged() {
    local verdict=$1
    shift
    "$engine" doctor --json --nic load0 >"$folder/doctor.json" || [ $? = 3 ]
    python3 - "$folder/doctor.json" "$verdict" "$@" <<'PYTHON'
import json, sys
found = [one for one in json.load(open(sys.argv[1], encoding="utf-8"))["findings"] if one["subject"] in (None, "load0")]
for item in sys.argv[3:]:
    verdicts = {one["verdict"] for one in found if one["item"] == item}
    if verdicts != {sys.argv[2]}:
        sys.exit(f"doctor says {verdicts or 'nothing'} of {item}, not {sys.argv[2]}: {found}")
PYTHON
}

# differences BEFORE NOW
differences() {
    echo "differences after revert:"
    diff "$1" "$2" || stop "not as it was"
    [ ! -e "$ENGINE_TUNING_STATE" ] || stop "a state is left: $ENGINE_TUNING_STATE"
}

the_network_there_and_back() {
    local card words=(--only network) items=(net.tcp_wmem net.slow_start_after_idle)
    [ "$who" != root ] || words=(--only 'network,nic' --nic load0 --mtu 9000) items+=(nic.offloads)
    segments load2 off
    segments load4 off
    values >"$folder/real-before"
    judged hint "${items[@]}"
    bash "$tune" apply --yes "${words[@]}"
    if [ "$who" = root ]; then
        for card in load2 load4; do
            bash "$tune" apply --yes --only nic --nic "$card"
            bash "$tune" check --only nic --nic "$card"
        done
        for card in load0 load2 load4; do segments "$card" on; done
        holds /sys/class/net/load0/mtu 9000
    fi
    holds /proc/sys/net/ipv4/tcp_wmem $'4096\t65536\t67108864'
    values >"$folder/real-applied"
    judged fine "${items[@]}"
    bash "$tune" check "${words[@]}"
    bash "$tune" apply --yes "${words[@]}"
    bash "$tune" revert
    values >"$folder/real-now"
    differences "$folder/real-before" "$folder/real-now"
    judged hint "${items[@]}"
    echo "this kernel: $(diff "$folder/real-before" "$folder/real-applied" | grep -c '^>') values of the network there and back"
}

machine_values() {
    local cpu=/sys/devices/system/cpu
    texts /proc/sys/vm/{min_free_kbytes,stat_interval,swappiness} /proc/sys/kernel/numa_balancing \
        /sys/kernel/mm/transparent_hugepage/enabled $cpu/cpufreq/{ondemand,conservative,schedutil}/* \
        $cpu/cpu[0-9]*/cpufreq/{scaling_governor,energy_performance_preference} \
        $cpu/cpu[0-9]*/cpufreq/{ondemand,conservative,schedutil}/*
}

# Memory and processors are no namespace's.
the_machine_there_and_back() {
    local words=(--only 'memory,cpu')
    if [ "$who" != root ] || [ ! -w /proc/sys/vm/swappiness ]; then
        echo 'this kernel: not checked: memory and processors, which only root of the machine may change'
        return
    fi
    # Of a machine, and not to be mixed up with the namespace's.
    ENGINE_TUNING_STATE=$folder/machine
    machine_values >"$folder/machine-before"
    # Whatever happens, it is put back, and nothing ends that.
    trap 'trap "" INT TERM HUP; bash "$tune" revert' EXIT
    bash "$tune" apply --yes "${words[@]}"
    holds /proc/sys/vm/swappiness 1
    machine_values >"$folder/machine-applied"
    bash "$tune" check "${words[@]}"
    bash "$tune" revert
    trap - EXIT
    machine_values >"$folder/machine-now"
    differences "$folder/machine-before" "$folder/machine-now"
    echo "this kernel: $(diff "$folder/machine-before" "$folder/machine-applied" | grep -c '^>' || true) values of the machine there and back"
}

mount -t sysfs sysfs /sys
make_cards
the_network_there_and_back
the_machine_there_and_back
