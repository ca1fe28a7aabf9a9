#!/usr/bin/env bash
# scripts/tune-host.sh on the root folders of seven hosts and, for what a network namespace has of its own, on this
# kernel: apply and revert leave everything bit for bit as it was, also after a failure half-way and after kills
# anywhere. What tuning/ holds is checked by systemd's own verifier.
#
#   tests/blackbox/tune_host.sh ENGINE [CHECK]    all, or one of the functions here
set -euo pipefail
engine=$(realpath "${1:?the path of the engine}")
cd "$(dirname "$0")/../.."
# Debian's users have no ethtool in theirs.
PATH=$PATH:/usr/sbin:/sbin
for tool in shellcheck systemd-analyze unshare ip ethtool flock python3; do
    command -v "$tool" >/dev/null || { echo "$tool is missing; install it: sudo apt-get install shellcheck systemd util-linux iproute2 ethtool python3"; exit 1; }
done
# shellcheck source=tests/blackbox/common/namespaces.sh
. tests/blackbox/common/namespaces.sh
# shellcheck source=tests/blackbox/tune/hosts.sh
. tests/blackbox/tune/hosts.sh
# shellcheck source=tests/blackbox/tune/again.sh
. tests/blackbox/tune/again.sh

work=$(mktemp -d)
way_back="sudo env ENGINE_TUNING_STATE=$work/machine scripts/tune-host.sh revert"
# What this machine had stays on the disk until it is back.
leave() {
    if [ -e "$work/machine" ]; then echo "this machine is not as it was; mend: $way_back"; else rm -rf "$work"; fi
}
trap leave EXIT
# Obeyed when the command at work has ended, as in_namespace.sh does once everything is back.
trap 'exit 143' INT TERM HUP
tune=$PWD/scripts/tune-host.sh
unset ENGINE_TUNING_STATE

fail() {
    echo "$1"
    [ ! -e "$work/log" ] || tail -n 20 "$work/log"
    exit 1
}

# expect STATUS WORDS…: runs tune-host.sh on $tree; what it says is in $work/log.
expect() {
    local wanted=$1 status=0
    shift
    bash "$tune" --root "$tree" "$@" >"$work/log" 2>&1 </dev/null || status=$?
    [ "$status" = "$wanted" ] || fail "$tree: '$*' ended with $status, not $wanted"
}

says() {
    grep -qF -- "$1" "$work/log" || fail "it does not say: $1"
}

# Everything below a root: kinds, modes, owners, contents, link targets; times of files in /etc.
dump() {
    (
        cd "$1"
        {
            find . -printf '%y %m %U %G %p %l\n' -path './etc/*' -type f -printf '%T@ %p\n'
            find . -type f -exec sha256sum {} +
        } | sort
    )
}

unchanged() {
    dump "$tree" >"$work/now"
    diff "$work/before" "$work/now" >"$work/log" || fail "$1: not as it was"
}

holds() {
    [ "$(cat "$tree/$1")" = "$2" ] || fail "$tree: $1 is '$(cat "$tree/$1")', not '$2'"
}

# The words that a host is tuned with.
words_of() {
    case $1 in
    two_sockets) echo --cores 1-30 --nic ens1f0np0 --mtu 9000 --huge-pages 512 --boot ;;
    cloud) echo --cores 1-7 --nic ens5 --huge-pages 64 ;;
    laptop) echo --cores 1-3 --nic wlp2s0 ;;
    container) echo ;;
    rhel) echo --cores 1-3 --nic eth0 --boot ;;
    arm) echo --cores 0-79 --nic enP2p1s0 --huge-pages 128 --boot ;;
    misconfigured) echo --nic bond0 --huge-pages 64 ;;
    esac
}

# there_and_back HOST
there_and_back() {
    local words
    read -ra words <<<"$(words_of "$1")"
    "host_$1" "$work/$1"
    dump "$tree" >"$work/before"
    expect 1 check "${words[@]}"
    says 'to change'
    unchanged 'check'
    expect 0 apply --dry-run --yes "${words[@]}"
    unchanged 'apply --dry-run'
    expect 3 "${words[@]}"
    says 'nothing was changed'
    unchanged 'no answer'
    expect 0 apply --yes "${words[@]}"
    expect 0 check "${words[@]}"
    says '0 to change'
    dump "$tree" >"$work/applied"
    expect 0 apply --yes "${words[@]}"
    dump "$tree" | diff "$work/applied" - >"$work/log" || fail "$1: a second apply changes something"
    expect 0 revert --dry-run
    dump "$tree" | diff "$work/applied" - >"$work/log" || fail "$1: revert --dry-run changes something"
    expect 0 revert
    unchanged 'revert'
    expect 0 revert
    says 'nothing to revert'
    unchanged 'a second revert'
    echo "$1: there and back"
}

# What a tuned host has, not only that it goes away again.
values_are_those_of_tuning() {
    local huge_pages=sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
    host_two_sockets "$work/values"
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0 --mtu 9000 --huge-pages 512
    says 'the kernel'"'"'s command line lacks: iommu=pt isolcpus=managed_irq,domain,1-30 nohz_full=1-30 rcu_nocbs=1-30'
    says 'sudo groupadd -f engine && sudo usermod -aG engine '
    [ ! -e "$tree/etc/default/grub.d" ] || fail 'boot arguments without --boot'
    grep -q 'KERNEL=="cpu1|cpu2|.*|cpu30", TEST' "$tree/etc/udev/rules.d/90-engine.rules" || fail 'the next boot sets other governors than --cores says'
    holds proc/sys/net/ipv4/tcp_wmem '4096 65536 67108864'
    holds "$huge_pages" 512
    holds proc/sys/kernel/numa_balancing 0
    holds sys/block/nvme1n1/queue/scheduler '[none] mq-deadline kyber bfq'
    holds sys/devices/system/cpu/cpu30/cpufreq/scaling_governor performance
    holds sys/devices/system/cpu/cpu31/cpufreq/scaling_governor powersave
    holds sys/class/net/ens1f0np0/mtu 9000
    holds sys/class/net/ens1f0np0/queues/tx-2/xps_cpus 8080808
    holds proc/irq/125/smp_affinity_list 0,31
    holds run/tso on
    holds run/rings $'rx=8192\ntx=8192'
    cmp -s tuning/systemd/engine.service "$tree/etc/systemd/system/engine.service" || fail 'the service is another one'
    put etc/group 'engine:x:990:me,you'
    SUDO_USER=them expect 0 apply --dry-run
    says 'usermod -aG engine them, and log in again'
    SUDO_USER=you expect 0 apply --dry-run
    ! grep -qF usermod "$work/log" || fail 'a member of the group is asked to join it'
    # More words later: what was before the first apply still counts.
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0 --mtu 9000 --huge-pages 1024 --boot
    for words in etc/default/grub.d/90-engine.cfg boot/grub/grub.cfg; do
        grep -q 'iommu=pt isolcpus=managed_irq,domain,1-30 nohz_full=1-30 rcu_nocbs=1-30' "$tree/$words" || fail "no boot arguments in $words"
    done
    expect 0 revert
    holds "$huge_pages" 0
    ! grep -q iommu "$tree/boot/grub/grub.cfg" || fail 'update-grub was not run after revert'
    host_rhel "$work/fedora"
    expect 0 apply --yes --cores 1-3 --nic eth0
    says 'lacks: iommu=pt isolcpus=managed_irq,domain,1-3'
    holds boot/arguments 'ro crashkernel=1G isolcpus=2'
    # The interrupts of a virtio card, not that of the port above.
    holds proc/irq/61/smp_affinity_list 0
    holds proc/irq/24/smp_affinity_list 0-63
    expect 0 apply --yes --cores 1-3 --boot
    says "would set   the kernel's argument isolcpus: isolcpus=2 -> isolcpus=managed_irq,domain,1-3"
    holds boot/arguments 'ro crashkernel=1G iommu=pt isolcpus=managed_irq,domain,1-3 nohz_full=1-3 rcu_nocbs=1-3'
    [ ! -e "$tree/etc/default/grub.d" ] || fail 'a file that nobody reads there'
    host_cloud "$work/mtu"
    expect 2 apply --yes --nic ens5 --mtu 9200
    says '--mtu 9001'
    # Beside the siblings of the cores, as long as others are left.
    for words in 1 2 3; do put "sys/devices/system/cpu/cpu$words/topology/thread_siblings_list" "$words,$((words + 4))"; done
    expect 1 check --only nic --nic ens5 --cores 1-3
    says '/proc/irq/30/smp_affinity_list: 0-63 -> 0,4'
    expect 0 apply --yes --nic ens5 --mtu 9001
    holds sys/class/net/ens5/mtu 9001
    cmp -s tuning/tmpfiles.d/engine.conf "$tree/etc/tmpfiles.d/engine.conf" || fail 'the next boot has no transparent huge pages'
    # By now they are "madvise": by this file.
    expect 0 check --nic ens5 --mtu 9001
    [ -e "$tree/etc/tmpfiles.d/engine.conf" ] || fail 'a second look loses the file'
    # Or by an apply that wrote no file.
    host_cloud "$work/in-parts"
    dump "$tree" >"$work/before"
    expect 0 apply --yes --only memory
    [ ! -e "$tree/etc/tmpfiles.d" ] || fail 'a file with --only memory'
    expect 0 apply --yes
    cmp -s tuning/tmpfiles.d/engine.conf "$tree/etc/tmpfiles.d/engine.conf" || fail 'the next boot has no transparent huge pages after --only memory'
    expect 0 check
    expect 0 revert
    unchanged 'applied in parts'
    host_arm "$work/passthrough"
    expect 0 apply --yes --boot
    says "give your boot loader: iommu.passthrough=1 nvme_core.default_ps_max_latency_us=0"
    [ ! -e "$tree/etc/modprobe.d/engine.conf" ] || fail 'options of a module that is not loaded'
    says 'transparent huge pages are not "never" here'
    [ ! -e "$tree/etc/tmpfiles.d" ] || fail 'transparent huge pages that are "always" would be less at the next boot'
    # Huge pages are of 1 GiB unless told otherwise.
    put proc/meminfo 'Hugepagesize:    1048576 kB'
    expect 0 apply --yes --only memory,files --huge-pages 512
    says 'hugepagesz=2M hugepages=512'
    holds "$huge_pages" 512
    holds proc/sys/vm/nr_hugepages 0
    [ ! -e "$tree/etc/sysctl.d/91-engine-host.conf" ] || fail 'the next boot has 512 GiB of huge pages'
    host_misconfigured "$work/more"
    expect 0 apply --yes --nic bond0 --huge-pages 64
    says 'engine.service: a link, left alone'
    holds proc/sys/net/core/wmem_max 268435456
    holds "$huge_pages" 4096
    holds sys/class/net/bond0/tx_queue_len 20000
    # Nor does a boot lower them.
    grep -qx 'vm.nr_hugepages = 4096' "$tree/etc/sysctl.d/91-engine-host.conf" || fail 'the next boot has fewer huge pages'
    grep -q '^ACTION=="add|change|move", .*KERNEL=="bond0", ATTR{tx_queue_len}="20000"' "$tree/etc/udev/rules.d/91-engine-nic-bond0.rules" || fail 'the next boot has a shorter queue'
    holds proc/sys/net/ipv4/tcp_wmem $'8192   87380\t268435456'
    says 'nvme0n1 has several paths'
    holds sys/block/nvme0n1/queue/scheduler 'none [kyber]'
    holds sys/block/nvme0c0n1/queue/scheduler '[none] kyber'
    holds sys/block/nvme0c0n2/queue/scheduler 'none [kyber]'
    host_laptop "$work/asked"
    printf 'y\n' | bash "$tune" --root "$tree" >"$work/log" 2>&1 || fail 'a yes is not taken'
    holds proc/sys/vm/swappiness 1
    for words in '--cores 9' '--cores 3-1' '--nic nope' '--mtu 9000' '--only all' '--huge-pages many' 'undo' 'apply revert'; do
        # shellcheck disable=SC2086 # words
        expect 2 $words
    done
    # What a script has not set is not left out.
    for words in cores nic mtu huge-pages only root; do
        expect 2 check "--$words" ''
        says "--$words needs a value"
        expect 2 check "--$words="
    done
    for words in 'net*' 'network cpu' 'cpu,net' $'cpu\nnic'; do
        expect 2 check --only "$words"
        says 'one of network, memory'
    done
    echo 'values, words and answers: as documented'
}

# What a boot takes along is not put back after it: its numbers may be another device's by now.
after_a_reboot_only_files_go_back() {
    host_two_sockets "$work/rebooted"
    dump "$tree" >"$work/before"
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0 --boot
    # reboot ID: the kernel's own values, and what the files set.
    reboot() {
        put proc/sys/kernel/random/boot_id "$1"
        put proc/irq/121/smp_affinity_list 7
        put sys/block/nvme1n1/queue/scheduler 'none [mq-deadline] kyber bfq'
        put run/rings 'rx=1024\ntx=1024'
    }
    reboot 1f0f7a3e-0002
    expect 0 revert --dry-run
    says 'values were set before the last boot'
    expect 0 revert
    says 'values were set before the last boot'
    holds proc/irq/121/smp_affinity_list 7
    holds proc/sys/net/core/wmem_max 67108864
    [ ! -e "$tree/etc/sysctl.d/90-engine.conf" ] || fail 'files stay after a reboot'
    ! grep -q iommu "$tree/boot/grub/grub.cfg" || fail 'arguments stay after a reboot'
    diff <(grep ' ./etc' "$work/before") <(dump "$tree" | grep ' ./etc') >"$work/log" || fail 'files are not as they were, after a reboot'
    [ ! -e "$tree/var/lib/engine-tuning" ] || fail 'a state is left'
    # Applied, rebooted, applied again: the values of this boot, and the files of the first.
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0
    reboot 1f0f7a3e-0003
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0
    holds proc/irq/121/smp_affinity_list 0,31
    expect 0 revert
    holds proc/irq/121/smp_affinity_list 7
    holds sys/block/nvme1n1/queue/scheduler 'none [mq-deadline] kyber bfq'
    holds run/rings $'rx=1024\ntx=1024'
    [ ! -e "$tree/etc/sysctl.d/90-engine.conf" ] || fail 'files stay after two applies'
    echo 'after a reboot: files, and no value of the boot before'
}

# A driver that has other interrupts with other rings.
new_rings_may_have_new_interrupts() {
    host_two_sockets "$work/renumbered"
    touch "$tree/run/renumber"
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0
    says 'apply again'
    holds proc/irq/12100/smp_affinity_list 0-63
    expect 0 apply --yes --cores 1-30 --nic ens1f0np0
    holds proc/irq/12100/smp_affinity_list 0,31
    expect 0 revert
    holds run/rings $'rx=1024\ntx=1024'
    echo 'interrupts that rings bring along: placed by a second apply'
}

# refuses WHAT: an apply on $tree that cannot be finished puts everything back.
refuses() {
    dump "$tree" >"$work/before"
    expect 3 apply --yes --cores 1-30 --nic ens1f0np0
    says 'everything is as it was before'
    says "$1"
    unchanged "failed at $1"
}

a_failure_half_way_puts_everything_back() {
    host_two_sockets "$work/no-folder"
    rmdir "$tree/etc/modprobe.d"
    echo 'not a folder' >"$tree/etc/modprobe.d"
    refuses /etc/modprobe.d/engine.conf
    host_two_sockets "$work/no-choice"
    put sys/block/nvme1n1/queue/scheduler '[mq-deadline] kyber'
    refuses 'nvme1n1/queue/scheduler could not be set'
    host_two_sockets "$work/no-offload"
    touch "$tree/run/ethtool-broken"
    refuses 'Operation not supported'
    # A second apply that fails leaves what the first one did, and its way back.
    host_two_sockets "$work/second"
    dump "$tree" >"$work/before"
    expect 0 apply --yes --only network,memory
    dump "$tree" >"$work/first"
    touch "$tree/run/ethtool-broken"
    expect 3 apply --yes --nic ens1f0np0
    rm "$tree/run/ethtool-broken"
    dump "$tree" | diff "$work/first" - >"$work/log" || fail 'a failed second apply is not undone'
    expect 0 revert
    unchanged 'a failed second apply, then revert'
    # A value that nobody can write, root neither: a read-only mount of that one file.
    host_two_sockets "$work/read-only"
    dump "$tree" >"$work/before"
    local file=$tree/sys/block/nvme1n1/queue/scheduler status=0
    # shellcheck disable=SC2016 # the inner shell's own
    unshare --map-root-user --mount bash -c 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; exec bash "$2" --root "$3" apply --yes' - \
        "$file" "$tune" "$tree" >"$work/log" 2>&1 || status=$?
    [ "$status" = 3 ] || fail "a read-only value: exit $status"
    says 'Read-only file system'
    says 'everything is as it was before'
    unchanged 'a read-only value'
    echo 'failures half-way: put back'
}

# The tool kills itself at its N-th command that changes anything, for every fifth N, of an apply and of the revert after
# one; then one revert. KILL_STRIDE=1 takes them all.
after_a_kill_anywhere_revert_puts_everything_back() {
    local at status kills what applied=(apply --yes --cores 1-7 --nic ens5 --huge-pages 64 --boot)
    cat >"$work/killer.sh" <<'KILLER'
# Read by bash before a script. Children (ethtool) are scripts too, but not the victim.
if [ "$0" = "$VICTIM" ]; then
    set -T
    commands=0
    count() {
        commands=$((commands + 1))
        if [ "$commands" = "$KILL_AT" ]; then kill -9 "$$" "$BASHPID"; fi
    }
    trap 'case $BASH_COMMAND in
        save_state* | mv* | sync* | change* | write_raw* | install* | printf*text* | mkdir* | cp* | chmod* | exec* | flock* | rm* | make_menu* | in_menu*) count ;;
    esac' DEBUG
fi
KILLER
    host_cloud "$work/killed"
    with_update_grub
    dump "$tree" >"$work/before"
    mkdir "$work/scratch"
    victim() {
        local at=$1
        shift
        VICTIM=$tune KILL_AT=$at BASH_ENV=$work/killer.sh TMPDIR=$work/scratch bash "$tune" --root "$tree" "$@"
    }
    for what in apply revert; do
        kills=0
        for ((at = 1; ; at += ${KILL_STRIDE:-5})); do
            status=0
            if [ "$what" = apply ]; then
                victim "$at" "${applied[@]}" >"$work/out" 2>&1 || status=$?
            else
                expect 0 "${applied[@]}"
                victim "$at" revert >"$work/out" 2>&1 || status=$?
            fi
            if [ "$status" = 0 ]; then break; fi
            [ "$status" = 137 ] || fail "$what killed at $at: exit $status: $(tail -3 "$work/out")"
            kills=$((kills + 1))
            expect 0 revert
            unchanged "killed at command $at of $what"
        done
        [ "$kills" -ge 10 ] || fail "only $kills kills of $what"
        echo "killed at $kills places of $what: revert puts everything back"
        if [ "$what" = apply ]; then expect 0 revert; fi
    done
}

# This kernel's own files: those of a network namespace and, for root, a few of the machine's, which change for a moment.
on_this_kernel_too() {
    local spaces=(--net --mount) who=root
    # A namespace of users too lets anybody do it, but the kernel keeps the cards' files from such roots.
    if [ "$(id -u)" = 0 ]; then
        echo "memory and processors of this machine change for a moment; if this is killed meanwhile: $way_back"
    else
        spaces+=(--map-root-user) who=somebody
    fi
    unshare "${spaces[@]}" bash tests/blackbox/tune/in_namespace.sh "$tune" "$engine" "$work" "$who" >"$work/log" 2>&1 ||
        fail 'apply and revert on this kernel'
    grep '^this kernel: ' "$work/log"
}

# Ended while this machine is tuned, it first puts it back.
an_end_leaves_this_machine_as_it_was() {
    local files=(/proc/sys/vm/{swappiness,stat_interval}) before pid status=0
    before=$(cat "${files[@]}")
    if [ "$(id -u)" != 0 ] || [ ! -w "${files[0]}" ] || [ "$(<"${files[0]}")" = 1 ]; then return; fi
    # A group of its own, all of which is told.
    set -m
    bash tests/blackbox/tune_host.sh "$engine" on_this_kernel_too >"$work/log" 2>&1 &
    set +m
    pid=$!
    until [ "$(<"${files[0]}")" = 1 ]; do
        kill -0 "$pid" 2>/dev/null || fail 'it ended and has changed nothing'
        sleep 0.02
    done
    kill -TERM -- "-$pid"
    wait "$pid" || status=$?
    [ "$status" = 143 ] || fail "ended half-way: exit $status"
    [ "$(cat "${files[@]}")" = "$before" ] || fail 'ended half-way: this machine is not as it was'
    echo 'ended half-way: this machine is as it was'
}

# Somebody without rights is told what to type.
nobody_changes_nothing() {
    local status=0
    [ "$(id -u)" = 0 ] || return 0
    setpriv --reuid=65534 --regid=65534 --clear-groups bash "$tune" apply --yes >"$work/log" 2>&1 || status=$?
    [ "$status" = 3 ] || fail "apply without root: exit $status"
    says 'sudo scripts/tune-host.sh apply --yes'
    # Debian's PATH of an ordinary user.
    PATH=/usr/bin:/bin bash "$tune" check --nic lo >"$work/log" 2>&1 || [ $? = 1 ] || fail 'check with a short PATH'
    ! grep -qF 'ethtool is missing' "$work/log" || fail 'ethtool is not found in /usr/sbin'
    # Somebody whose primary group is engine: no list of members has them.
    mkdir "$work/bin"
    cat >"$work/bin/id" <<'EOT'
#!/bin/sh
if [ "$1" = -nG ]; then echo engine; else command -p id "$@"; fi
EOT
    chmod +x "$work/bin/id"
    SUDO_USER=them PATH=$work/bin:$PATH bash "$tune" check >"$work/log" 2>&1 || [ $? = 1 ] || fail 'check for somebody of the group'
    ! grep -qF usermod "$work/log" || fail 'who has engine as primary group is asked to join it'
    echo 'without root: refused, with the command'
}

what_tuning_holds_is_sound() {
    mkdir "$work/units"
    cp tuning/systemd/engine.slice "$work/units/"
    # The verifier wants the program to exist; nobody has installed it here.
    sed "s|/usr/local/bin/engine|$engine|" tuning/systemd/engine.service >"$work/units/engine.service"
    systemd-analyze verify --man=no "$work/units/engine.service" "$work/units/engine.slice" >"$work/log" 2>&1 || fail 'systemd-analyze verify'
    [ ! -s "$work/log" ] || fail 'systemd-analyze verify has something to say'
    diff <(sed -nE 's/^-?([a-z].*) = (.*)/\1=\2/p' tuning/sysctl.d/90-engine.conf) <(sed '1,/^\[sysctl\]/d' tuning/tuned/engine/tuned.conf) \
        >"$work/log" || fail 'tuned.conf and sysctl.d/90-engine.conf differ'
    shellcheck scripts/tune-host.sh scripts/tune-host/*.sh >"$work/log" || fail 'shellcheck'
    awk '/^[a-z_]+\(\) \{$/ { from = FNR } /^}$/ && FNR - from >= 70 { print FILENAME ": " FNR - from + 1 " lines"; long = 1 } END { exit long }' \
        scripts/tune-host.sh scripts/tune-host/*.sh >"$work/log" || fail 'a function of more than 70 lines'
    # Every setting is explained.
    sed -nE 's/^-?([a-z0-9_.]+) = .*/\1/p; s/.*ATTR\{([^}]+)\}="[^"]*".*/\1/p' tuning/sysctl.d/*.conf tuning/udev/* | while read -r words; do
        grep -qF "\`$words\`" tuning/README.md || fail "tuning/README.md does not explain $words"
    done
    echo 'units, profile, shell: sound'
}

need_namespaces --map-root-user --net --mount
if [ $# -gt 1 ]; then "$2"; exit; fi
what_tuning_holds_is_sound
nobody_changes_nothing
on_this_kernel_too
an_end_leaves_this_machine_as_it_was
for host in two_sockets cloud laptop rhel container arm misconfigured; do there_and_back "$host"; done
values_are_those_of_tuning
after_a_reboot_only_files_go_back
new_rings_may_have_new_interrupts
rings_set_up_anew_are_steered_again
cards_have_a_file_each
what_later_files_set_is_told
offloads_keep_what_was_asked_for
what_the_kernel_drops_along_comes_back
the_boot_menu_is_part_of_the_change
kernels_with_words_of_their_own_keep_them
what_needs_no_change_is_left_alone
states_of_other_formats
a_failure_half_way_puts_everything_back
after_a_kill_anywhere_revert_puts_everything_back
