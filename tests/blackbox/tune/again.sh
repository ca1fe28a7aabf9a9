# What a second run meets: cards set up anew, a menu that was not made, states of other releases. Sourced by tune_host.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # work is tune_host.sh's

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

# Of a state that an earlier release wrote revert knows the way back; of a later one it says so before it asks.
states_of_other_formats() {
    host_laptop "$work/formats"
    dump "$tree" >"$work/before"
    expect 0 apply --yes
    sed -i '1s/2/1/; 2,$s/\t1f0f7a3e-0001\t/\t/' "$tree/var/lib/engine-tuning/state"
    expect 0 revert
    unchanged 'a state of format 1'
    expect 0 apply --yes --only memory
    sed -i '1s/2/3/' "$tree/var/lib/engine-tuning/state"
    expect 3 apply
    says 'has format 3, of a later release'
    ! grep -qF '[y/N]' "$work/log" || fail 'a state that it does not know is told after the question'
    echo 'states of other formats: reverted, or refused at once'
}
