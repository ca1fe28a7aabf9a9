# What this host would get: the values of tuning/, held against what it has. Sourced by tune-host.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # root, the options and `raw` are the other files'

kinds=() targets=() wanted=() differs=() skipped=() notes=() core_list=() differing=0 differ=0 card_is_set_up=0
declare -A kept=()
tmpfiles_file=/etc/tmpfiles.d/engine.conf
# The rings take 2 MiB pages; /proc/sys/vm/nr_hugepages counts those of the kernel's default size.
huge_pages_file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

in_part() {
    [ -z "$only" ] || [[ ,$only, == *,$1,* ]]
}

skip() {
    skipped+=("$1")
}

# want KIND TARGET WANTED: one thing of the plan, unless this host lacks it; `differ` is 1 if it is to be changed.
want() {
    differ=0
    case $1 in
    file)
        if [ -L "$root$2" ]; then skip "$2: a link, left alone"; return; fi
        [ -e "$root$2" ] && cmp -s "$root$2" "$3" || differ=1
        # A kill may have come between the file and the menu that is made from it.
        [ "$2" != "$grub_file" ] || in_menu "$3" || differ=1 ;;
    *)
        if ! read_raw "$1" "$2"; then skip "$2: this host has none, or it cannot be read"; return; fi
        same "$2" "$raw" "$3" || differ=1 ;;
    esac
    kinds+=("$1") targets+=("$2") wanted+=("$3") differs+=("$differ")
    differing=$((differing + differ))
}

# keep FILE…: what the kernel changes by itself along with the thing before, if that is to be changed; otherwise it is
# nobody's business here, and revert leaves it alone.
keep() {
    local path
    [ "$differ" = 1 ] || return 0
    for path in "$@"; do
        path=${path#"$root"}
        if [ -n "${kept[$path]:-}" ] || ! read_raw keep "$path"; then continue; fi
        kept[$path]=1
        kinds+=(keep) targets+=("$path") wanted+=(-) differs+=(0)
    done
}

# Takes out what root cannot write either, as the kernel shows values that belong to the machine inside a network namespace.
leave_read_only() {
    local at mode path paths=()
    local -A place=()
    for at in "${!kinds[@]}"; do
        [ "${kinds[at]}${differs[at]}" = value1 ] || continue
        paths+=("$root${targets[at]}")
        place[$root${targets[at]}]=$at
    done
    [ "${#paths[@]}" -gt 0 ] || return 0
    while read -r mode path; do
        [ $((8#$mode & 8#222)) = 0 ] || continue
        at=${place[$path]}
        skip "${targets[at]}: read-only here"
        unset "kinds[at]" "targets[at]" "wanted[at]" "differs[at]"
        differing=$((differing - 1))
    done < <(stat -c '%a %n' "${paths[@]}" 2>/dev/null)
}

# at_least_now PATH VALUE: of a value of this host no less than it is today, in `least`: a number, or a list of them.
at_least_now() {
    local at has=() needs
    if read_raw value "$1"; then read -ra has <<<"$raw"; fi
    read -ra needs <<<"$2"
    for at in "${!needs[@]}"; do
        if [[ ${has[at]:-} =~ ^[0-9]{1,18}$ ]] && [ "${has[at]}" -gt "${needs[at]}" ]; then needs[at]=${has[at]}; fi
    done
    least=${needs[*]}
}

no_processor() {
    local all
    all=$(cat "$root/sys/devices/system/cpu/present" 2>/dev/null) ||
        die 2 "--cores '$cores': this host has no processor $1, and none in /sys; leave --cores out"
    die 2 "--cores '$cores': this host has no processor $1; name some of those that it has: --cores $all"
}

expand_cores() {
    local part core
    for part in ${cores//,/ }; do
        [ "$((10#${part#*-}))" -ge "$((10#${part%-*}))" ] || die 2 "--cores '$cores': '$part' is no range of processors"
        for ((core = 10#${part%-*}; core <= 10#${part#*-}; core++)); do
            [ -d "$root/sys/devices/system/cpu/cpu$core" ] || no_processor "$core"
            core_list+=("$core")
        done
    done
}

is_core() {
    [[ " ${core_list[*]} " == *" $1 "* ]]
}

# sysctl.d/90-engine.conf: what is set now, and the file as it goes to /etc, with no value below today's.
plan_sysctls() {
    local line key value path rule='' part
    while IFS= read -r line; do
        [[ $line =~ ^#\ (at\ least|exactly)$ ]] && rule=${BASH_REMATCH[1]}
        if [[ $line =~ ^-?([a-z0-9_.]+)\ =\ (.+)$ ]]; then
            key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
            path=/proc/sys/${key//.//}
            part=memory
            [[ $key != net.* ]] || part=network
            if [ "$rule" = 'at least' ]; then
                at_least_now "$path" "$value"
                value=$least
                line=${line%%=*}"= $value"
            fi
            if in_part "$part"; then want value "$path" "$value"; fi
        fi
        printf '%s\n' "$line"
    done <"$tuning/sysctl.d/90-engine.conf" >"$stage/sysctl"
}

plan_memory() {
    local path value
    in_part memory || return 0
    while read -r _ path _ _ _ _ value; do
        # "always" does no harm, "madvise" is what is wanted; only "never" is in the way.
        if read_raw value "$path" && [ "$raw" != never ]; then value=$raw; fi
        want value "$path" "$value"
        keep "$root/proc/sys/vm/min_free_kbytes"
    done < <(grep '^w ' "$tuning/tmpfiles.d/engine.conf")
    if [ -n "$huge_pages" ]; then
        at_least_now "$huge_pages_file" "$huge_pages"
        want value "$huge_pages_file" "$least"
        # A total that goes up and down again need not lie on the nodes as it did.
        keep "$root"/sys/devices/system/node/node[0-9]*/hugepages/hugepages-2048kB/nr_hugepages
    fi
}

# assigned SUBSYSTEM FILE: "ATTRIBUTE VALUE" of each assignment that a file of udev rules makes there.
assigned() {
    sed -nE "/^ACTION.*SUBSYSTEM==\"$1\"/s/.*ATTR\{([^}]+)\}=\"([^\"]*)\".*/\1 \2/p" "$2"
}

plan_cpu() {
    local folder attribute value number governor found=0
    in_part cpu || return 0
    while read -r attribute value; do
        for folder in "$root"/sys/devices/system/cpu/cpu[0-9]*; do
            number=${folder##*/cpu}
            [ -e "$folder/$attribute" ] || continue
            found=1
            [ "${#core_list[@]}" = 0 ] || is_core "$number" || continue
            want value "${folder#"$root"}/$attribute" "$value"
            governor=$raw
            # What a governor is tuned with goes with the last processor that has it, and comes again as it is by
            # default: one folder for all processors or, with some drivers, one for each.
            keep "$root/sys/devices/system/cpu/cpufreq/$governor"/* "$folder/cpufreq/$governor"/*
            [ "$governor" != userspace ] || keep "$folder/cpufreq/scaling_setspeed"
            # intel_pstate changes this one along with the governor.
            keep "$folder/cpufreq/energy_performance_preference"
        done
    done < <(assigned cpu "$tuning/udev/90-engine.rules")
    [ "$found" = 1 ] || skip 'governor: this host has no cpufreq (a virtual machine, or the firmware decides)'
}

# With native multipath the queues are those of the paths (nvme0c1n1), which udev is not told of, and not the drive's.
plan_drives() {
    local folder attribute value drives=() paths
    in_part drives || return 0
    for folder in "$root"/sys/block/nvme*; do
        [[ ${folder##*/} =~ ^(nvme[0-9]+)(n[0-9]+)$ ]] || continue
        paths=("$root/sys/block/${BASH_REMATCH[1]}"c*"${BASH_REMATCH[2]}")
        [ "${#paths[@]}" = 0 ] || notes+=("${folder##*/} has several paths: a boot sets their queues as it likes; apply again")
        [ "${#paths[@]}" -gt 0 ] || paths=("$folder")
        drives+=("${paths[@]#"$root"}")
    done
    if [ "${#drives[@]}" = 0 ]; then skip 'drives: this host has no NVMe drive'; return; fi
    for folder in "${drives[@]}"; do
        while read -r attribute value; do
            want value "$folder/$attribute" "$value"
            [ "$attribute" = queue/scheduler ] || continue
            # A new scheduler resets all of these; the depth follows the number of requests, which comes back before it.
            keep "$root$folder"/queue/{iosched/*,async_depth,nr_requests,wbt_lat_usec}
        done < <(assigned block "$tuning/udev/90-engine.rules")
    done
}

plan_nic() {
    local card=/sys/class/net/$nic attribute value before
    in_part nic || return 0
    if [ -z "$nic" ]; then skip "network card: name it: --nic NAME ($(cd "$root/sys/class/net" 2>/dev/null && echo *))"; return; fi
    while read -r attribute value; do
        at_least_now "$card/$attribute" "$value"
        want value "$card/$attribute" "$least"
    done < <(assigned net "$tuning/udev/91-engine-nic.rules.in")
    before=$differing
    [ -z "$mtu" ] || plan_mtu "$card"
    plan_ethtool
    # For another MTU, ring or offload many drivers set queues and interrupts up anew: they are kept, and steered last.
    differ=$((differing > before)) card_is_set_up=$((differing > before))
    keep "$root$card"/queues/tx-[0-9]*/xps_cpus
    for value in "$(irqs_of "$card")"/*; do keep "$root/proc/irq/${value##*/}/smp_affinity_list"; done
    # IPv6 has one of its own, which the card's goes over.
    keep "$root/proc/sys/net/ipv6/conf/$nic/mtu"
    plan_steering "$card"
}

plan_mtu() {
    local most
    most=$(of_root ip -d -j link show dev "$nic" 2>/dev/null | sed -nE 's/.*"max_mtu":([0-9]{1,9})[^0-9].*/\1/p') || most=''
    if [ "${most:-0}" -gt 0 ] && [ "$mtu" -gt "$most" ]; then die 2 "--mtu $mtu: $nic takes at most $most; --mtu $most"; fi
    want value "$1/mtu" "$mtu"
}

plan_ethtool() {
    local name
    if ! root_has ethtool; then
        skip 'rings and offloads: ethtool is missing; install it: sudo apt-get install ethtool, or dnf install ethtool'
        return
    fi
    for name in rx tx; do
        if read_raw ethtool "$nic:ring-max:$name"; then
            want ethtool "$nic:ring:$name" "$raw"
        else
            skip "$nic: $name ring of a fixed size"
        fi
    done
    for name in tx-checksumming scatter-gather tcp-segmentation-offload generic-segmentation-offload generic-receive-offload; do
        if ! read_raw ethtool "$nic:offload:$name"; then
            skip "$nic: $name is fixed"
        elif [ "$raw" = 'off [requested on]' ]; then
            skip "$nic: $name is asked for already, and comes by itself where what it needs is on (checksums, scatter-gather, the cards below)"
        else
            want ethtool "$nic:offload:$name" on
        fi
    done
}

# The folder of a card's interrupts. A virtio card has those of the PCI function above it; what is above others is a
# bridge with interrupts of its own.
irqs_of() {
    local real
    real=$(readlink -f "$root$1/device" || true)
    if [[ ${real##*/} == virtio* ]]; then echo "${real%/*}/msi_irqs"; else echo "$root$1/device/msi_irqs"; fi
}

# Each core to one send queue, by turns; interrupts to the card's own node, beside the cores and, where others are left,
# their siblings, as the engine leaves no gap.
plan_steering() {
    local queue at one core node list away='' irq queues=0 mine beside=()
    local -A sibling=()
    [ "${#core_list[@]}" -gt 0 ] || { skip "$nic: queues and interrupts: name the engine's processors: --cores LIST"; return; }
    for queue in "$root$1"/queues/tx-[0-9]*; do queues=$((queues + 1)); done
    for queue in "$root$1"/queues/tx-[0-9]*; do
        at=${queue##*/tx-}
        # More queues than cores: the first cores have several.
        mine=("${core_list[at % ${#core_list[@]}]}")
        for ((one = at + queues; one < ${#core_list[@]}; one += queues)); do mine+=("${core_list[one]}"); done
        mask_with "${mine[@]}"
        want value "$1/queues/tx-$at/xps_cpus" "$mask"
    done
    node=$(cat "$root$1/device/numa_node" 2>/dev/null || echo -1)
    list=$(cat "$root/sys/devices/system/node/node${node/#-1/0}/cpulist" 2>/dev/null || cat "$root/sys/devices/system/cpu/online" 2>/dev/null || true)
    siblings_of_cores
    for at in ${list//,/ }; do
        for ((core = ${at%-*}; core <= ${at#*-}; core++)); do
            is_core "$core" || beside+=("$core")
        done
    done
    for core in "${beside[@]}"; do [ -n "${sibling[$core]:-}" ] || away+=${away:+,}$core; done
    # Beside a core in its own units is still better than on it.
    if [ -z "$away" ]; then away=$(IFS=,; echo "${beside[*]}"); fi
    if [ -z "$away" ]; then skip "$nic: interrupts: --cores leaves no processor of its node free for them"; return; fi
    away=$(in_ranges "$away")
    for irq in "$(irqs_of "$1")"/*; do want value "/proc/irq/${irq##*/}/smp_affinity_list" "$away"; done
    if [ -e "$root/run/irqbalance/irqbalance.pid" ] || compgen -G "$root/run/irqbalance/*.sock" >/dev/null; then
        notes+=("irqbalance runs and will move $nic's interrupts again: systemctl stop irqbalance, or IRQBALANCE_BANNED_CPULIST=$cores")
    fi
}

# The processors that share units with one of the cores, as keys of `sibling`.
siblings_of_cores() {
    local core part one
    for core in "${core_list[@]}"; do
        read_file "$root/sys/devices/system/cpu/cpu$core/topology/thread_siblings_list" || continue
        for part in ${raw//,/ }; do
            for ((one = ${part%-*}; one <= ${part#*-}; one++)); do sibling[$one]=1; done
        done
    done
}

# The mask of these processors as the kernel writes it, in `mask`: groups of 32 bits.
mask_with() {
    local core group top=0 groups=()
    for core in "$@"; do
        group=$((core / 32))
        groups[group]=$((${groups[group]:-0} | 1 << (core % 32)))
        [ "$group" -le "$top" ] || top=$group
    done
    printf -v mask '%x' "${groups[top]}"
    for ((group = top - 1; group >= 0; group--)); do printf -v mask '%s,%08x' "$mask" "${groups[group]:-0}"; done
}

# "1,2,3,8" as the kernel shows it: "1-3,8".
in_ranges() {
    local one first='' last='' text=''
    for one in ${1//,/ } end; do
        if [ -n "$last" ] && [ "$one" = "$((last + 1))" ]; then last=$one; continue; fi
        if [ -n "$first" ]; then text+=${text:+,}$first; [ "$first" = "$last" ] || text+=-$last; fi
        first=$one last=$one
    done
    echo "$text"
}

# 91-engine-nic-NAME.rules: for --nic, one for each card, and as it goes to /etc, with no value below today's.
stage_nic_rules() {
    local attribute value
    sed "s/@NIC@/$nic/" "$tuning/udev/91-engine-nic.rules.in" >"$stage/nic.rules"
    while read -r attribute value; do
        at_least_now "/sys/class/net/$nic/$attribute" "$value"
        sed -i "s|ATTR{$attribute}=\"[^\"]*\"|ATTR{$attribute}=\"$least\"|" "$stage/nic.rules"
    done < <(assigned net "$tuning/udev/91-engine-nic.rules.in")
}

# Where our file is already, it may be what "never" has gone by; or an apply of the values alone was.
plan_tmpfiles() {
    local path=/sys/kernel/mm/transparent_hugepage/enabled
    if [ -e "$root$tmpfiles_file" ] || was_before "$path" never || { read_raw value "$path" && [ "$raw" = never ]; }; then
        want file "$tmpfiles_file" "$tuning/tmpfiles.d/engine.conf"
    else
        skip "$tmpfiles_file: transparent huge pages are not \"never\" here"
    fi
}

plan_files() {
    local unit names
    in_part files || return 0
    want file /etc/sysctl.d/90-engine.conf "$stage/sysctl"
    note_later_values 90-engine.conf "$stage/sysctl"
    if [ -n "$huge_pages" ] && ! grep -q '^Hugepagesize: *2048 kB$' "$root/proc/meminfo" 2>/dev/null; then
        skip "/etc/sysctl.d/91-engine-host.conf: vm.nr_hugepages is not of 2 MiB pages here; for the next boot give the kernel: hugepagesz=2M hugepages=$huge_pages"
    elif [ -n "$huge_pages" ]; then
        at_least_now "$huge_pages_file" "$huge_pages"
        printf '# Written by scripts/tune-host.sh --huge-pages.\nvm.nr_hugepages = %s\n' "$least" >"$stage/sysctl-host"
        want file /etc/sysctl.d/91-engine-host.conf "$stage/sysctl-host"
        note_later_values 91-engine-host.conf "$stage/sysctl-host"
    fi
    cp "$tuning/udev/90-engine.rules" "$stage/rules"
    if [ "${#core_list[@]}" -gt 0 ]; then
        printf -v names '|cpu%s' "${core_list[@]}"
        sed -i "s/KERNEL==\"cpu\[0-9\]\*\"/KERNEL==\"${names#|}\"/" "$stage/rules"
    fi
    want file /etc/udev/rules.d/90-engine.rules "$stage/rules"
    if [ -n "$nic" ]; then
        stage_nic_rules
        want file "/etc/udev/rules.d/91-engine-nic-$nic.rules" "$stage/nic.rules"
    fi
    if [ -d "$root/etc/systemd" ]; then
        for unit in engine.slice engine.service; do want file "/etc/systemd/system/$unit" "$tuning/systemd/$unit"; done
        plan_tmpfiles
    else
        skip 'slice, service, tmpfiles: this host has no systemd'
    fi
    if [ -d "$root/etc/security" ]; then
        want file /etc/security/limits.d/90-engine.conf "$tuning/limits.d/90-engine.conf"
        plan_group
    else
        skip 'limits of logins: this host has no PAM'
    fi
    if [ -d "$root/etc/tuned/profiles" ]; then
        want file /etc/tuned/profiles/engine/tuned.conf "$tuning/tuned/engine/tuned.conf"
    elif [ -d "$root/etc/tuned" ]; then
        want file /etc/tuned/engine/tuned.conf "$tuning/tuned/engine/tuned.conf"
    else
        skip 'profile: this host has no TuneD'
    fi
    if nvme_core_is_built_in; then
        skip '/etc/modprobe.d/engine.conf: nvme_core is part of this kernel, which takes its options from the command line'
    elif [ -d "$root/sys/module/nvme_core" ]; then
        want file /etc/modprobe.d/engine.conf "$tuning/modprobe.d/engine.conf"
    else
        skip 'options of nvme_core: the module is not loaded here'
    fi
}

# The limits of logins are for the members of a group, which nothing here makes.
plan_group() {
    local group='' memberships='' user=${SUDO_USER:-$(id -un)}
    if [ -n "$root" ]; then
        group=$(grep -s '^engine:' "$root/etc/group") || group=''
    else
        group=$(getent group engine 2>/dev/null) || group=''
        # Its list of members leaves out whose primary group it is.
        memberships=$(id -nG "$user" 2>/dev/null) || memberships=''
    fi
    # Root needs no such limits; it is not known who else is to have them.
    if [ "$user" = root ]; then
        [ -z "${group##*:}" ] || return 0
        user=NAME
    fi
    [[ ,${group##*:}, != *,$user,* && " $memberships " != *' engine '* ]] || return 0
    notes+=("locked memory and open files of logins count for members of the group engine: sudo groupadd -f engine && sudo usermod -aG engine $user, and log in again")
}

plan() {
    plan_sysctls
    plan_memory
    plan_cpu
    plan_drives
    plan_nic
    plan_files
    plan_boot
    leave_read_only
    if [ -e "$root/.dockerenv" ] || [ -e "$root/run/.containerenv" ]; then
        notes+=('this is a container: most values belong to its host; run this there')
    fi
}

show() {
    local at one over target fine=0
    for at in "${!kinds[@]}"; do
        if [ "${kinds[at]}" = keep ]; then continue; fi
        if [ "${differs[at]}" = 0 ]; then
            fine=$((fine + 1))
        elif [ "${kinds[at]}" = file ]; then
            over=''
            [ ! -e "$root${targets[at]}" ] || over=' (over the one there)'
            printf 'would write %s%s\n' "${targets[at]}" "$over"
        else
            read_raw "${kinds[at]}" "${targets[at]}" || raw='?'
            read -ra one <<<"$raw"
            target=${targets[at]}
            [ "${kinds[at]}" != argument ] || target="the kernel's argument $target"
            printf 'would set   %s: %s -> %s\n' "$target" "${one[*]:-none}" "${wanted[at]}"
        fi
    done
    for one in "${skipped[@]}"; do printf 'skipped     %s\n' "$one"; done
    for one in "${notes[@]}"; do printf 'note        %s\n' "$one"; done
    printf '%d to change, %d as wanted, %d skipped\n' "$differing" "$fine" "${#skipped[@]}"
}
