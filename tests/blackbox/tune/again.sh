# What a second run meets: cards set up anew, a menu that was not made, states of other releases. Sourced by tune_host.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # work and tune are tune_host.sh's

# What another tool, or the driver, has set up anew is steered again, though it was as wanted when apply began.
rings_set_up_anew_are_steered_again() {
    host_two_sockets "$work/again"
    dump "$tree" >"$work/before"
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0
    put run/rings 'rx=1024\ntx=1024'
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0
    holds proc/irq/125/smp_affinity_list 0,31
    holds sys/class/net/ens1f0np0/queues/tx-2/xps_cpus 8080808
    expect 0 check --cores 1-30 --nic ens1f0np0
    # A card is not gone because ethtool is.
    mv "$tree/usr/sbin/ethtool" "$work/ethtool"
    expect 3 revert
    says 'ens1f0np0:ring:rx could not be put back: ethtool does not answer'
    mv "$work/ethtool" "$tree/usr/sbin/ethtool"
    expect 0 revert
    unchanged 'rings put back by hand between two applies, and a revert without ethtool'
    echo 'rings set up anew: queues and interrupts steered again'
}

# The rule of one card is no reason to take that of another one away.
cards_have_a_file_each() {
    local card
    host_two_sockets "$work/cards"
    nic ens1f1np1 8 0 140
    dump "$tree" >"$work/before"
    for card in ens1f0np0 ens1f1np1; do expect 0 apply --yes --cores 1-30 --nic "$card"; done
    for card in ens1f0np0 ens1f1np1; do
        expect 0 check --cores 1-30 --only files --nic "$card"
        says '0 to change'
        grep -q "KERNEL==\"$card\"" "$tree/etc/udev/rules.d/91-engine-nic-$card.rules" || fail "the next boot has no rule for $card"
    done
    expect 0 revert
    unchanged 'two cards'
    echo 'two cards: a rule for each'
}

# A file with a later name has the last word at each boot; its links lead into the same root.
what_later_files_set_is_told() {
    local one link told=(
        'sets vm.swappiness = 10 at each boot, behind 90-engine.conf, which wants 1'
        'sets net.core.rmem_max = 212992 at each boot, behind 90-engine.conf, which wants 67108864'
        'sets net.ipv4.tcp_wmem = 4096 16384 67108864 at each boot, behind 90-engine.conf, which wants 4096 65536 67108864'
        'sets vm.nr_hugepages = 8 at each boot, behind 91-engine-host.conf, which wants 64'
    )
    host_laptop "$work/later"
    for one in etc/sysctl.d/10-early.conf usr/lib/sysctl.d/99-hidden.conf run/sysctl.d/99-sysctl.conf; do
        put "$one" 'vm.swappiness = 30'
    done
    # The first is overruled by name, the second by /etc, the third goes the same way as ours.
    ln -s /dev/null "$tree/etc/sysctl.d/99-hidden.conf"
    put usr/lib/sysctl.d/95-fine.conf 'vm.swappiness=1\n; vm.stat_interval = 1\nvm/stat_interval = 60\n-net.core.wmem_max = 134217728'
    expect 1 check --huge-pages 64
    says '/run/sysctl.d/99-sysctl.conf sets vm.swappiness = 30'
    put etc/sysctl.conf '# hosting\nvm.swappiness=60\nvm/swappiness = 10 \n-net.core.rmem_max =212992\nnet.ipv4.tcp_wmem = 4096\t16384  67108864\nvm.nr_hugepages = 8'
    for link in ../sysctl.conf /etc/sysctl.conf; do
        ln -sf "$link" "$tree/etc/sysctl.d/99-sysctl.conf"
        expect 1 check --huge-pages 64
        for one in "${told[@]}"; do says "/etc/sysctl.d/99-sysctl.conf $one"; done
        [ "$(grep -c 'at each boot' "$work/log")" = "${#told[@]}" ] || fail 'more is told than what is lost'
        expect 1 check --only memory
        ! grep -q 'at each boot' "$work/log" || fail 'told without a file of ours'
    done
    rm "$tree/etc/sysctl.d/99-sysctl.conf" "$tree/run/sysctl.d/99-sysctl.conf"
    expect 1 check --huge-pages 64
    ! grep -q 'at each boot' "$work/log" || fail 'told where no later file sets anything'
    echo 'later files of sysctl.d: told'
}

# The file and the menu that the boot loader reads are one change; grubby's silence is no reason to forget.
the_boot_menu_is_part_of_the_change() {
    local words='iommu=pt isolcpus=managed_irq,domain,1-30' boot=(--cores 1-30 --boot)
    host_two_sockets "$work/menu"
    touch "$tree/run/update-grub-broken"
    dump "$tree" >"$work/before"
    expect 3 apply --yes "${boot[@]}"
    says 'update-grub failed: cannot find a device for /'
    says 'everything is as it was before'
    unchanged 'a failing update-grub'
    rm "$tree/run/update-grub-broken"
    dump "$tree" >"$work/before"
    expect 0 apply --yes "${boot[@]}"
    # A kill between the file and the menu.
    put boot/grub/grub.cfg 'GRUB_CMDLINE_LINUX='
    expect 1 check "${boot[@]}"
    expect 0 apply --yes "${boot[@]}"
    grep -q "$words" "$tree/boot/grub/grub.cfg" || fail 'a second apply does not run update-grub'
    touch "$tree/run/update-grub-broken"
    expect 3 revert
    says 'revert again'
    rm "$tree/run/update-grub-broken"
    expect 0 revert
    unchanged 'update-grub fails during the first revert'
    # Another file has the last word.
    printf '#!/bin/sh\necho quiet >"%s"\n' "$tree/boot/grub/grub.cfg" >"$tree/usr/sbin/update-grub"
    "$tree/usr/sbin/update-grub"
    dump "$tree" >"$work/before"
    expect 3 apply --yes "${boot[@]}"
    says 'another file of /etc/default/grub.d'
    unchanged 'arguments that another file replaces'
    # Applied, rebooted, reverted, applied: this boot has the words, the next one needs them.
    host_two_sockets "$work/next-boot"
    put proc/cmdline "ro $words nohz_full=1-30 rcu_nocbs=1-30"
    expect 0 apply --yes "${boot[@]}"
    grep -q "$words" "$tree/boot/grub/grub.cfg" || fail '--boot goes by the running kernel'
    # A host whose boot loader reads no grub.cfg.
    host_two_sockets "$work/no-menu"
    rm "$tree/boot/grub/grub.cfg"
    touch "$tree/run/update-grub-broken"
    dump "$tree" >"$work/before"
    expect 3 apply --yes "${boot[@]}"
    says 'everything is as it was before'
    unchanged 'a failing update-grub without a menu'
    host_rhel "$work/silent"
    mkdir "$tree/run"
    dump "$tree" >"$work/before"
    expect 0 apply --yes --cores 1-3 --boot
    touch "$tree/run/grubby-broken"
    expect 3 revert
    says 'grubby does not answer'
    rm "$tree/run/grubby-broken"
    expect 0 revert
    unchanged 'a revert while grubby was silent, and another'
    echo "the boot loader's menu: changed and put back with its file"
}

# grubby writes all kernels: what one of them, or those to come, have for themselves would be gone.
kernels_with_words_of_their_own_keep_them() {
    local other boot=(--cores 1-3 --boot) all='iommu=pt isolcpus=managed_irq,domain,1-3 nohz_full=1-3 rcu_nocbs=1-3'
    host_rhel "$work/kernels"
    put boot/rescue 'ro isolcpus=5'
    dump "$tree" >"$work/before"
    expect 0 apply --yes "${boot[@]}"
    says "the kernel's argument isolcpus: kernels differ in it"
    says 'sudo grubby --update-kernel=DEFAULT --args=isolcpus=managed_irq,domain,1-3'
    holds boot/rescue "ro isolcpus=5 ${all/isolcpus=managed_irq,domain,1-3 /}"
    holds boot/arguments "ro crashkernel=1G isolcpus=2 ${all/isolcpus=managed_irq,domain,1-3 /}"
    expect 0 check "${boot[@]}"
    expect 0 revert
    unchanged 'a kernel with an argument of its own'
    for other in default/grub kernel/cmdline; do
        host_rhel "$work/to-come-${other%/*}"
        mkdir -p "$tree/etc/kernel"
        case $other in
        default/grub) put "etc/$other" 'GRUB_CMDLINE_LINUX="quiet isolcpus=7"' ;;
        kernel/cmdline) printf 'root=UUID=1 ro isolcpus=7' >"$tree/etc/$other" ;;
        esac
        expect 0 apply --yes "${boot[@]}"
        says "the kernel's argument isolcpus: kernels differ in it"
        holds boot/arguments "ro crashkernel=1G isolcpus=2 ${all/isolcpus=managed_irq,domain,1-3 /}"
    done
    # One that was installed behind an apply is no reason: what was before is known.
    host_rhel "$work/installed"
    dump "$tree" >"$work/before"
    expect 0 apply --yes "${boot[@]}"
    put boot/arguments 'ro crashkernel=1G isolcpus=2'
    expect 0 apply --yes "${boot[@]}"
    holds boot/arguments "ro crashkernel=1G $all"
    expect 0 revert
    unchanged 'a kernel that came between two applies'
    # Nor does it hide what the others have by now.
    expect 0 apply --yes "${boot[@]}"
    put boot/arguments 'ro crashkernel=1G isolcpus=2'
    expect 0 revert
    unchanged 'a kernel that came before a revert'
    # What one of them has been given since is nothing to overwrite or to take away.
    expect 0 apply --yes "${boot[@]}"
    put boot/arguments 'ro crashkernel=1G isolcpus=2'
    put boot/rescue 'ro isolcpus=5'
    expect 0 revert
    holds boot/rescue 'ro isolcpus=5'
    host_rhel "$work/since"
    expect 0 apply --yes "${boot[@]}"
    put boot/rescue 'ro isolcpus=5'
    expect 0 apply --yes --cores 1-2 --boot
    says "the kernel's argument isolcpus: kernels differ in it"
    holds boot/rescue 'ro isolcpus=5 nohz_full=1-2 rcu_nocbs=1-2'
    expect 0 revert
    says "kept        the kernel's argument isolcpus of /boot/vmlinuz-0-rescue: set by others since"
    holds boot/rescue 'ro isolcpus=5'
    holds boot/arguments 'ro crashkernel=1G isolcpus=2'
    echo 'kernels with arguments of their own: left alone'
}

# An offload that waits for another one is asked for already: to write it would take away what somebody wants.
offloads_keep_what_was_asked_for() {
    local words=(--only nic --nic ens1f0np0)
    host_two_sockets "$work/offloads"
    put run/tx off
    put run/tso on
    dump "$tree" >"$work/before"
    expect 0 apply --yes "${words[@]}"
    says 'tcp-segmentation-offload is asked for already'
    says 'scatter-gather is fixed'
    holds run/tx on
    holds run/mangle off
    expect 0 check "${words[@]}"
    says '0 to change'
    expect 0 revert
    unchanged 'segmentation that waits for checksums'
    # Nobody wants it; and by the time of the revert somebody has taken the checksums away.
    put run/tso off
    dump "$tree" >"$work/before"
    expect 0 apply --yes "${words[@]}"
    holds run/tso on
    put run/tx off
    expect 0 revert
    unchanged 'segmentation that nobody wants'
    echo 'offloads: what was asked for is asked for again'
}

# Tunables of a scheduler or governor go with it; pages lie where the kernel likes.
what_the_kernel_drops_along_comes_back() {
    local gone cpu=sys/devices/system/cpu queue=sys/block/nvme0n1/queue
    local node=sys/devices/system/node pages=hugepages/hugepages-2048kB/nr_hugepages
    host "$work/along"
    cpus 3
    put $cpu/cpu0/cpufreq/scaling_governor ondemand
    put $cpu/cpufreq/ondemand/up_threshold 40
    put $cpu/cpu1/cpufreq/scaling_governor conservative
    put $cpu/cpu1/cpufreq/conservative/up_threshold 15
    put $cpu/cpu1/cpufreq/conservative/down_threshold 10
    put $cpu/cpu2/cpufreq/scaling_governor userspace
    put $cpu/cpu2/cpufreq/scaling_setspeed 1200000
    nvme nvme0n1 'none [mq-deadline]'
    put $queue/iosched/read_expire 100
    put $queue/iosched/async_depth 7
    put $node/node0/$pages 24
    put $node/node1/$pages 1000
    put sys/kernel/mm/$pages 1024
    dump "$tree" >"$work/before"
    with_kernel() { FOLLOWED=$tune TREE=$tree BASH_ENV=$PWD/tests/blackbox/tune/kernel.sh expect "$@"; }
    with_kernel 0 apply --yes --huge-pages 3000
    holds $cpu/cpu2/cpufreq/scaling_setspeed '<unsupported>'
    holds $node/node1/$pages 1500
    for gone in $queue/iosched $cpu/cpufreq/ondemand $cpu/cpu1/cpufreq/conservative; do
        [ ! -e "$tree/$gone" ] || fail "$gone is still there: the kernel of this test does nothing"
    done
    with_kernel 0 revert
    unchanged 'what the kernel dropped along with schedulers and governors'
    with_kernel 0 apply --yes --only drives
    REFUSES_ONCE=1 with_kernel 0 revert
    says 'the scheduler is refused once'
    unchanged 'what the kernel dropped along, and a scheduler that it refuses at first'
    echo 'schedulers, governors and pages: back with what they were tuned with'
}

# What was as wanted, and what would have gone along with it, apply does not touch: others may, and revert leaves it.
what_needs_no_change_is_left_alone() {
    local one node=sys/devices/system/node pages=hugepages/hugepages-2048kB/nr_hugepages
    local card=sys/class/net/ens1f0np0 words=(--cores 1-30 --nic ens1f0np0)
    local later=("$node/node0/$pages=4096" "$node/node1/$pages=4096" "sys/kernel/mm/$pages=8192"
        proc/sys/vm/min_free_kbytes=90112 sys/block/nvme0n1/queue/nr_requests=256
        sys/devices/system/cpu/cpu3/cpufreq/energy_performance_preference=power
        sys/devices/system/cpu/cpufreq/performance/io_is_busy=1
        proc/sys/net/ipv6/conf/ens1f0np0/mtu=1400 "$card/queues/tx-2/xps_cpus=ff" proc/irq/122/smp_affinity_list=9)
    host_two_sockets "$work/as-wanted"
    cpus 64 performance
    put run/rings 'rx=8192\ntx=8192'
    put run/tso on
    for one in "${later[@]}"; do put "${one%%=*}" 2048; done
    put "sys/kernel/mm/$pages" 4096
    put "$card/queues/tx-2/xps_cpus" 8080808
    put proc/irq/122/smp_affinity_list 0,31
    expect 0 apply --yes "${words[@]}" --huge-pages 64
    for one in "${later[@]}"; do put "${one%%=*}" "${one#*=}"; done
    expect 0 revert
    for one in "${later[@]}"; do holds "${one%%=*}" "${one#*=}"; done
    # What a second apply would keep the first one has set.
    host_two_sockets "$work/set-before"
    put run/rings 'rx=8192\ntx=8192'
    put run/tso on
    expect 0 apply --yes --only nic "${words[@]}"
    put run/rings 'rx=1024\ntx=1024'
    expect 0 apply --yes --only nic "${words[@]}"
    expect 0 revert
    holds proc/irq/121/smp_affinity_list 5
    echo 'what needed no change: left to others'
}

# Of a state that an earlier release wrote revert knows the way back; of a later one it says so before it asks.
states_of_other_formats() {
    host_laptop "$work/formats"
    dump "$tree" >"$work/before"
    expect 0 apply --yes
    sed -i '1s/2/1/; 2,$s/\t1f0f7a3e-0001\t/\t/' "$tree/var/lib/engine-tuning/state"
    expect 0 revert
    unchanged 'a state of format 1'
    host_rhel "$work/unsaid"
    dump "$tree" >"$work/before"
    expect 0 apply --yes --cores 1-3 --boot
    sed -i '/^wrote\t/d' "$tree/var/lib/engine-tuning/state"
    expect 0 revert
    unchanged 'a state that does not say what was written'
    expect 0 apply --yes --only memory
    sed -i '1s/2/3/' "$tree/var/lib/engine-tuning/state"
    expect 3 apply
    says 'has format 3, of a later release'
    ! grep -qF '[y/N]' "$work/log" || fail 'a state that it does not know is told after the question'
    echo 'states of other formats: reverted, or refused at once'
}
