# What the kernel is started with: arguments by grubby, or GRUB's menu by update-grub. Sourced by tune-host.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # root, the options and `raw` are the other files'

grub_file=/etc/default/grub.d/90-engine.cfg

# argument_in NAME TEXT: the words NAME and NAME=… of a command line, in `raw`.
argument_in() {
    local words word
    raw=''
    read -ra words <<<"$2"
    for word in "${words[@]}"; do [ "${word%%=*}" != "$1" ] || raw+=${raw:+ }$word; done
}

# The words NAME and NAME=… of the kernel's command line at the next boot.
read_argument() {
    local answer
    answer=$(of_root grubby --info=DEFAULT 2>/dev/null) || return 1
    argument_in "$1" "$(sed -n 's/^args="\(.*\)"$/\1/p' <<<"$answer")"
}

# kernels_agree NAME: every kernel has the same of it as the default one, and so have those to come.
kernels_agree() {
    local answer line own
    answer=$(of_root grubby --info=ALL 2>/dev/null) || return 1
    read_argument "$1" || return 1
    own=$raw
    while IFS= read -r line || [ -n "$line" ]; do
        argument_in "$1" "$line"
        [ "$raw" = "$own" ] || return 1
    done < <(
        sed -n 's/^args="\(.*\)"$/\1/p' <<<"$answer"
        sed -n "/^GRUB_CMDLINE_LINUX=/{s/^[^=]*=//;s/[\"']/ /g;p;}" "$root/etc/default/grub" 2>/dev/null || true
        cat "$root/etc/kernel/cmdline" 2>/dev/null || true
    )
}

# want_argument NAME=…: grubby writes all kernels at once, so that one with its own words could not be put back. Of what
# is recorded they were the same.
want_argument() {
    local name=${1%%=*}
    if [ -z "${is_recorded["argument $name"]:-}" ] && read_argument "$name" && [ "$raw" != "$1" ] && ! kernels_agree "$name"; then
        skip "the kernel's argument $name: kernels differ in it (grubby --info=ALL; for those to come /etc/default/grub, /etc/kernel/cmdline), and all are left alone; for the next boot's only: sudo grubby --update-kernel=DEFAULT --args=$1"
        return
    fi
    want argument "$name" "$1"
}

# in_menu FILE: GRUB's menu has the arguments of this file, or cannot be read.
in_menu() {
    local menu=$root/boot/grub/grub.cfg
    [ -e "$menu" ] || return 1
    [ -r "$menu" ] || return 0
    grep -qF -- "$(sed -n 's/^GRUB_CMDLINE_LINUX="[$]GRUB_CMDLINE_LINUX \(.*\)"$/\1/p' "$1")" "$menu"
}

make_menu() {
    problem=$(of_root update-grub 2>&1) && return
    problem="update-grub failed: ${problem##*$'\n'}"
    return 1
}

# Only what was loaded has a state.
nvme_core_is_built_in() {
    [ -d "$root/sys/module/nvme_core" ] && [ ! -e "$root/sys/module/nvme_core/initstate" ]
}

# The kernel's arguments: printed; written only with --boot. Fedora, RHEL and their kin have grubby, Debian and its kin
# update-grub.
plan_boot() {
    local groups=("$root"/sys/kernel/iommu_groups/*) arguments=() missing=() one differing_before=$differing
    if [ "${#groups[@]}" -gt 0 ]; then
        # Only ARM's cpuinfo names an implementer.
        if grep -q '^CPU implementer' "$root/proc/cpuinfo" 2>/dev/null; then one=iommu.passthrough=1; else one=iommu=pt; fi
        arguments+=("$one")
    fi
    [ -z "$cores" ] || arguments+=("isolcpus=managed_irq,domain,$cores" "nohz_full=$cores" "rcu_nocbs=$cores")
    if nvme_core_is_built_in; then
        arguments+=("nvme_core.$(sed -n 's/^options nvme_core //p' "$tuning/modprobe.d/engine.conf")")
    fi
    for one in "${arguments[@]}"; do
        [[ " $(cat "$root/proc/cmdline" 2>/dev/null) " == *" $one "* ]] || missing+=("$one")
    done
    if [ "$boot" = 0 ]; then
        [ "${#missing[@]}" = 0 ] || notes+=("the kernel's command line lacks: ${missing[*]} (tuning/README.md; --boot writes it)")
        return
    fi
    # What this boot has the next one need not have.
    [ "${#arguments[@]}" -gt 0 ] || return 0
    if root_has grubby; then
        for one in "${arguments[@]}"; do want_argument "$one"; done
    elif root_has update-grub; then
        sed "s/@ARGUMENTS@/${arguments[*]}/" "$tuning/boot/90-engine.cfg.in" >"$stage/grub"
        want file "$grub_file" "$stage/grub"
    else
        [ "${#missing[@]}" = 0 ] || skip "boot: neither grubby nor update-grub is here; give your boot loader: ${missing[*]}"
    fi
    [ "$differing" = "$differing_before" ] || notes+=('the arguments count after a reboot; to be rid of them: revert, and another reboot')
}
