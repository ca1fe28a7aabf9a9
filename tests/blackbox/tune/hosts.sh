# Root folders of hosts that this machine is not. Sourced by tune_host.sh.
# shellcheck shell=bash

# put FILE TEXT: below $tree, as the kernel shows it.
put() {
    local path=$tree/$1
    [ -d "${path%/*}" ] || mkdir -p "${path%/*}"
    printf '%b\n' "$2" >"$path"
}

# Every host: kernel settings as distributions ship them, tabs included.
host() {
    tree=$1
    mkdir -p "$tree/var/lib" "$tree/etc" "$tree/usr/sbin" "$tree/sys/class/net" "$tree/sys/block"
    put proc/sys/kernel/random/boot_id 1f0f7a3e-0001
    put proc/cmdline 'BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet'
    put proc/sys/net/core/wmem_max 212992
    put proc/sys/net/core/rmem_max 212992
    put proc/sys/net/core/optmem_max 20480
    put proc/sys/net/core/netdev_max_backlog 1000
    put proc/sys/net/ipv4/tcp_wmem '4096\t16384\t4194304'
    put proc/sys/net/ipv4/tcp_rmem '4096\t131072\t6291456'
    put proc/sys/net/ipv4/tcp_slow_start_after_idle 1
    put proc/sys/net/ipv4/tcp_mtu_probing 0
    put proc/sys/vm/stat_interval 1
    put proc/sys/vm/swappiness 60
    # Of the kernel's default size, and those of 2 MiB.
    put proc/meminfo 'Hugepagesize:       2048 kB'
    put proc/sys/vm/nr_hugepages 0
    put sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages 0
    put proc/sys/vm/min_free_kbytes 67584
    put sys/kernel/mm/transparent_hugepage/enabled 'always [madvise] never'
}

with_systemd() {
    mkdir -p "$tree/etc/systemd/system" "$tree/etc/sysctl.d" "$tree/etc/udev/rules.d" "$tree/etc/security/limits.d" "$tree/etc/modprobe.d"
}

# cpus COUNT GOVERNOR
cpus() {
    local cpu
    for ((cpu = 0; cpu < $1; cpu++)); do
        mkdir -p "$tree/sys/devices/system/cpu/cpu$cpu"
        [ -z "${2:-}" ] || put "sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor" "$2"
    done
    put sys/devices/system/cpu/online "0-$(($1 - 1))"
    put sys/devices/system/cpu/present "0-$(($1 - 1))"
}

# nvme NAME SCHEDULERS
nvme() {
    put "sys/block/$1/queue/scheduler" "$2"
    put "sys/block/$1/queue/rq_affinity" 1
    put "sys/block/$1/queue/nr_requests" 1023
    put "sys/block/$1/queue/wbt_lat_usec" 2000
    put sys/module/nvme_core/initstate live
}

# virtio_nic NAME QUEUES FIRST_IRQ: its interrupts belong to the PCI function above it, below a port that has one too.
virtio_nic() {
    local port=sys/devices/pci0000:00/0000:00:01.0
    put "$port/msi_irqs/24" msi
    put "$port/0000:00:03.0/virtio0/features" 0
    mkdir -p "$tree/sys/class/net/$1"
    ln -s "../../../${port#sys/}/0000:00:03.0/virtio0" "$tree/sys/class/net/$1/device"
    put proc/irq/24/smp_affinity_list 0-63
    nic "$1" "$2" -1 "$3" /..
}

# nic NAME QUEUES NODE FIRST_IRQ [WHERE_ITS_INTERRUPTS_ARE]
nic() {
    local queue
    put "sys/class/net/$1/tx_queue_len" 1000
    put "sys/class/net/$1/mtu" 1500
    [ -e "$tree/sys/class/net/$1/device" ] || put "sys/class/net/$1/device/numa_node" "$3"
    for ((queue = 0; queue < $2; queue++)); do
        put "sys/class/net/$1/queues/tx-$queue/xps_cpus" 00000000,00000000
        put "sys/class/net/$1/device${5:-}/msi_irqs/$(($4 + queue))" msix
        put "proc/irq/$(($4 + queue))/smp_affinity_list" 0-63
    done
}

# An ethtool that keeps what it is told in files of this root. New rings have interrupts as the driver likes them, and
# once, if run/renumber is there, other ones. Segmentation is two features, which without checksums are off, whatever
# somebody wants.
with_ethtool() {
    put run/rings 'rx=1024\ntx=1024'
    put run/tx on
    put run/tso off
    put run/mangle off
    cat >"$tree/usr/sbin/ethtool" <<'TOOL'
#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
[ ! -e "$root/run/ethtool-broken" ] || [ "$1" != -K ] || { echo "netlink error: Operation not supported"; exit 1; }
. "$root/run/rings"
case $1 in
-g) printf 'Ring parameters for %s:\nPre-set maximums:\nRX:\t\t8192\nRX Mini:\tn/a\nTX:\t\t8192\nCurrent hardware settings:\nRX:\t\t%s\nRX Mini:\tn/a\nTX:\t\t%s\n' "$2" "$rx" "$tx" ;;
-G)
    eval "$3=$4"
    printf 'rx=%s\ntx=%s\n' "$rx" "$tx" >"$root/run/rings"
    for irq in "$root/sys/class/net/$2"/device/msi_irqs/*; do
        at=$root/proc/irq/${irq##*/}
        echo 0-63 >"$at/smp_affinity_list"
        if [ -e "$root/run/renumber" ]; then mv "$irq" "${irq}00"; mv "$at" "${at}00"; fi
    done
    for queue in "$root/sys/class/net/$2"/queues/tx-*; do echo 00000000,00000000 >"$queue/xps_cpus"; done
    rm -f "$root/run/renumber" ;;
-k)
    tx=$(cat "$root/run/tx")
    has() {
        wanted=$(cat "$root/run/$1")
        if [ "$wanted$tx" = onoff ]; then echo 'off [requested on]'; else echo "$wanted"; fi
    }
    case " $(has tso) $(has mangle) " in *' on '*) any=on ;; *) any=off ;; esac
    printf 'Features for %s:\nrx-checksumming: on [fixed]\n' "$2"
    printf 'tx-checksumming: %s\n\ttx-checksum-ipv4: off [fixed]\n\ttx-checksum-ip-generic: %s\n' "$tx" "$tx"
    printf 'scatter-gather: on\n\ttx-scatter-gather: on [fixed]\n\ttx-scatter-gather-fraglist: off [fixed]\n'
    printf 'tcp-segmentation-offload: %s\n\ttx-tcp-segmentation: %s\n' "$any" "$(has tso)"
    printf '\ttx-tcp-mangleid-segmentation: %s\n\ttx-tcp-ecn-segmentation: off [fixed]\n' "$(has mangle)"
    printf 'generic-segmentation-offload: on\ngeneric-receive-offload: on\n' ;;
-K)
    case $3 in
    tx-checksumming) echo "$4" >"$root/run/tx" ;;
    tcp-segmentation-offload) for one in tso mangle; do echo "$4" >"$root/run/$one"; done ;;
    *) echo "bad command line argument(s): $3"; exit 1 ;;
    esac ;;
esac
TOOL
    chmod +x "$tree/usr/sbin/ethtool"
}

# An ip that knows what a card takes at most.
with_ip() {
    printf '#!/bin/sh\necho %s\n' "'[{\"mtu\":1500,\"min_mtu\":68,\"max_mtu\":$1,\"num_tx_queues\":8}]'" >"$tree/usr/sbin/ip"
    chmod +x "$tree/usr/sbin/ip"
}

# Debian's way to the kernel's command line.
with_update_grub() {
    put boot/grub/grub.cfg 'GRUB_CMDLINE_LINUX='
    put etc/default/grub GRUB_CMDLINE_LINUX=
    cat >"$tree/usr/sbin/update-grub" <<'TOOL'
#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
[ ! -e "$root/run/update-grub-broken" ] || { echo "cannot find a device for /"; exit 1; }
cat "$root/etc/default/grub" "$root"/etc/default/grub.d/*.cfg >"$root/boot/grub/grub.cfg" 2>/dev/null || true
TOOL
    chmod +x "$tree/usr/sbin/update-grub"
}

# And that of Fedora and RHEL, with the arguments of two kernels: what is added replaces what has the same name.
with_grubby() {
    put boot/arguments "$1"
    put boot/rescue "$1"
    put etc/default/grub "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX=\"${1#ro }\""
    cat >"$tree/usr/sbin/grubby" <<'TOOL'
#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
[ ! -e "$root/run/grubby-broken" ] || exit 1
shown() {
    printf 'index=%s\nkernel="/boot/vmlinuz-%s"\nargs="%s"\nroot="UUID=1"\n' "$1" "$2" "$(cat "$root/boot/$3")"
}
case $1 in
--info=DEFAULT) shown 0 5.14 arguments ;;
--info=ALL) shown 0 5.14 arguments; shown 1 0-rescue rescue ;;
--update-kernel=*)
    case $1 in
    *=ALL) kernels='arguments rescue' ;;
    */vmlinuz-5.14) kernels=arguments ;;
    */vmlinuz-0-rescue) kernels=rescue ;;
    *) echo "The param ${1#*=} is incorrect"; exit 1 ;;
    esac
    for kernel in $kernels; do
        kept='' words=${2#*=}
        for old in $(cat "$root/boot/$kernel"); do
            for new in $words; do [ "${old%%=*}" != "${new%%=*}" ] || continue 2; done
            kept="$kept $old"
        done
        case $2 in --args=*) kept="$kept $words" ;; esac
        echo "${kept# }" >"$root/boot/$kernel"
    done ;;
esac
TOOL
    chmod +x "$tree/usr/sbin/grubby"
}

host_two_sockets() {
    host "$1"
    with_systemd
    cpus 64 powersave
    local cpu
    for ((cpu = 0; cpu < 64; cpu++)); do
        put "sys/devices/system/cpu/cpu$cpu/cpufreq/energy_performance_preference" balance_performance
    done
    put sys/devices/system/node/node0/cpulist 0-31
    put sys/devices/system/node/node1/cpulist 32-63
    mkdir -p "$tree/sys/kernel/iommu_groups/0" "$tree/etc/tuned/profiles" "$tree/etc/default"
    with_update_grub
    put proc/sys/kernel/numa_balancing 1
    nvme nvme0n1 '[none] mq-deadline kyber bfq'
    nvme nvme1n1 'none [mq-deadline] kyber bfq'
    nic ens1f0np0 8 0 120
    # Somebody has placed one by hand.
    put proc/irq/121/smp_affinity_list 5
    put sys/class/net/ens1f0np0/queues/tx-1/xps_cpus 00000000,00000020
    with_ethtool
}

host_cloud() {
    host "$1"
    with_systemd
    cpus 8
    nvme nvme0n1 '[mq-deadline] none'
    nic ens5 4 -1 30
    with_ip 9001
    put sys/kernel/mm/transparent_hugepage/enabled 'always madvise [never]'
    # A file of ours that somebody has changed, with a mode and a time of its own.
    put etc/sysctl.d/90-engine.conf 'net.core.wmem_max = 1'
    chmod 600 "$tree/etc/sysctl.d/90-engine.conf"
    touch -d '2020-02-03 04:05:06.789' "$tree/etc/sysctl.d/90-engine.conf"
}

host_laptop() {
    host "$1"
    with_systemd
    cpus 4 schedutil
    mkdir -p "$tree/etc/tuned"
    nvme nvme0n1 'none [bfq]'
    nic wlp2s0 1 -1 40
    put run/irqbalance/irqbalance.pid 1
}

# A virtual machine of the RHEL family, with a processor that is isolated already.
host_rhel() {
    host "$1"
    with_systemd
    cpus 4
    mkdir -p "$tree/sys/kernel/iommu_groups/1"
    virtio_nic eth0 3 60
    with_grubby 'ro crashkernel=1G isolcpus=2'
}

host_container() {
    host "$1"
    rm -r "$tree/proc/sys/net/core"
    cpus 2
    nic eth0 1 -1 50
    put .dockerenv ''
}

host_arm() {
    host "$1"
    with_systemd
    cpus 80 ondemand
    mkdir -p "$tree/sys/kernel/iommu_groups/3"
    put proc/cpuinfo 'processor\t: 0\nCPU implementer\t: 0x41'
    put sys/kernel/mm/transparent_hugepage/enabled '[always] madvise never'
    nvme nvme0n1 '[none] mq-deadline'
    # Part of the kernel.
    rm "$tree/sys/module/nvme_core/initstate"
    nic enP2p1s0 16 0 200
    put sys/devices/system/node/node0/cpulist 0-79
}

# Larger than we want, hand-tuned, a masked unit, a link, a drive with native multipath.
host_misconfigured() {
    host "$1"
    with_systemd
    cpus 16 performance
    put proc/sys/net/core/wmem_max 268435456
    put proc/sys/net/ipv4/tcp_wmem '8192   87380\t268435456'
    put proc/sys/vm/swappiness 100
    put sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages 4096
    ln -s /dev/null "$tree/etc/systemd/system/engine.service"
    rmdir "$tree/etc/udev/rules.d" "$tree/etc/udev"
    nvme nvme0n1 'none [kyber]'
    nvme nvme0c0n1 'none [kyber]'
    nvme nvme0c0n2 'none [kyber]'
    nic bond0 0 -1 0
    put sys/class/net/bond0/tx_queue_len 20000
}
