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

# look_at_kernels NAME BEFORE: those that have other words of it than BEFORE, and the files that those to come have them
# from: in `ours` where we wrote them, in `others` where somebody did.
look_at_kernels() {
    local answer where line
    ours=() others=()
    answer=$(of_root grubby --info=ALL 2>/dev/null) || return 1
    while IFS=$'\t' read -r where line || [ -n "$where" ]; do
        argument_in "$1" "$line"
        if [ "$raw" = "$2" ]; then continue; fi
        if is_ours "$1" "$raw"; then ours+=("$where"); else others+=("$where"); fi
    done < <(
        sed -n '/^kernel=/h; /^args=/{H;x;s/^kernel="\(.*\)"\nargs="\(.*\)"$/\1\t\2/p;}' <<<"$answer"
        sed -n "/^GRUB_CMDLINE_LINUX=/{s|^[^=]*=|/etc/default/grub\t|;s/[\"']/ /g;p;}" "$root/etc/default/grub" 2>/dev/null || true
        sed 's|^|/etc/kernel/cmdline\t|' "$root/etc/kernel/cmdline" 2>/dev/null || true
    )
}

# is_ours NAME WORDS. A state of before says of which names there are, and no more.
is_ours() {
    [ -n "${is_recorded["wrote $2"]:-}" ] ||
        { [ -n "${is_recorded["argument $1"]:-}" ] && [[ " ${!is_recorded[*]} " != *" wrote $1="* ]]; }
}

# want_argument NAME=…: grubby writes all kernels at once, so that one with its own words could not be put back.
want_argument() {
    local name=${1%%=*} before at
    if read_argument "$name" && [ "$raw" != "$1" ]; then
        before=$raw at=${is_recorded["argument $name"]:-}
        if [ -n "$at" ]; then decode "${recorded_befores[at]}"; before=$decoded; fi
        if ! look_at_kernels "$name" "$before" || [ "${#others[@]}" -gt 0 ]; then
            skip "the kernel's argument $name: kernels differ in it (grubby --info=ALL; for those to come /etc/default/grub, /etc/kernel/cmdline), and all are left alone; for the next boot's only: sudo grubby --update-kernel=DEFAULT --args=$1"
            return
        fi
    fi
    want argument "$name" "$1"
}

# tell_grubby KERNELS NAME WORDS: they replace what belongs to the same name; of ALL also in kernels to come.
tell_grubby() {
    local change=--args=$3
    [ -n "$3" ] || change=--remove-args=$2
    problem=$(of_root grubby "--update-kernel=$1" "$change" 2>&1)
}

# restore_argument NAME BEFORE: wherever the words are ours; where somebody has set others since, these stay.
restore_argument() {
    local where
    look_at_kernels "$1" "$2" || { problem='grubby does not answer'; return 1; }
    if [ "${#others[@]}" = 0 ]; then
        [ "${#ours[@]}" = 0 ] || write_raw argument "$1" "$2"
        return
    fi
    printf "kept        the kernel's argument %s of %s: set by others since\n" "$1" "${others[*]}"
    for where in "${ours[@]}"; do
        # Only along with all kernels does grubby write these.
        if [[ $where == /etc/* ]]; then
            printf "kept        the kernel's argument %s in %s: edit it, or kernels to come have it\n" "$1" "$where"
        else
            tell_grubby "$where" "$1" "$2" || return 1
        fi
    done
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
