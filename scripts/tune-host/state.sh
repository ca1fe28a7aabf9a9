# What was before: one line for each thing that is changed, in the order of the changes. Sourced by tune-host.sh.
#
#   value    PATH            BOOT  its text, or the chosen word of a list like "none [mq-deadline]", as base64
#   keep     PATH            BOOT  the same, of a value that the kernel changes by itself along with another one
#   ethtool  NIC:WHAT:NAME   BOOT  a number or on/off, as base64
#   argument NAME            BOOT  the words of the kernel's command line that belong to it, as base64
#   wrote    NAME=…          BOOT  -: what became of them by us; any other words are somebody's
#   file     PATH            BOOT  "absent", or mode, owner, group, time of change and content (base64)
#   folder   PATH            BOOT  was not there
#
# BOOT is the kernel's id of the boot in which it was read. Format 1 had none of these: what it recorded counts as read
# in this boot, as its own revert would take it.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # shared with tune-host.sh and change.sh

recorded_kinds=() recorded_targets=() recorded_boots=() recorded_befores=() boot_now=-
declare -A is_recorded
base64_digits=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/

# encode TEXT, decode BASE64: in `encoded` and `decoded`. A host has hundreds of short values; programs would make each
# take milliseconds.
encode() {
    local at group
    encoded=''
    for ((at = 0; at < ${#1}; at += 3)); do
        printf -v group '(%d & 255) << 16 | (%d & 255) << 8 | %d & 255' "'${1:at:1}" "'${1:at+1:1}" "'${1:at+2:1}"
        group=$((group))
        encoded+=${base64_digits:group >> 18:1}${base64_digits:group >> 12 & 63:1}
        encoded+=${base64_digits:group >> 6 & 63:1}${base64_digits:group & 63:1}
    done
    case $((${#1} % 3)) in
    1) encoded=${encoded%??}== ;;
    2) encoded=${encoded%?}= ;;
    esac
}

decode() {
    local at text=${1%%=*} one two three four group bytes
    decoded=''
    for ((at = 0; at < ${#text}; at += 4)); do
        one=${base64_digits%%"${text:at:1}"*} two=${base64_digits%%"${text:at+1:1}"*}
        three=${base64_digits%%"${text:at+2:1}"*} four=${base64_digits%%"${text:at+3:1}"*}
        group=$((${#one} << 18 | ${#two} << 12 | ${#three} << 6 | ${#four}))
        printf -v bytes '\\x%02x\\x%02x\\x%02x' $((group >> 16)) $((group >> 8 & 255)) $((group & 255))
        # Of a last group that is not whole, a byte less than it has digits.
        printf -v bytes %b "${bytes:0:4 * (${#text} - at - 1)}"
        decoded+=$bytes
    done
}

# One at a time: the folder itself is the lock, so that nothing of it is left behind.
lock_state() {
    mkdir -p "$state_folder" || die 3 "$state_folder cannot be made; name another one: ENGINE_TUNING_STATE=FOLDER"
    exec {state_lock}<"$state_folder"
    flock -n "$state_lock" || die 3 "another tune-host.sh is at work ($state_folder is locked)"
}

drop_state() {
    rm -f "$state_folder/state" "$state_folder/state.new"
    rmdir "$state_folder" 2>/dev/null || true
}

load_state() {
    local kind target boot_then before format=2
    recorded_kinds=() recorded_targets=() recorded_boots=() recorded_befores=()
    is_recorded=()
    boot_now=-
    if read_file "$root/proc/sys/kernel/random/boot_id"; then boot_now=$raw; fi
    if [ -e "$state_folder/state" ] && [ ! -r "$state_folder/state" ]; then die 3 "$state_folder/state is root's; run: sudo scripts/tune-host.sh $original"; fi
    [ -e "$state_folder/state" ] || return 0
    while IFS=$'\t' read -r kind target boot_then before; do
        if [ "$kind" = engine-tuning ]; then
            format=$target
            [[ $format =~ ^[12]$ ]] || die 3 "$state_folder/state has format $format, of a later release; update, or revert with that release: scripts/tune-host.sh revert"
            continue
        fi
        if [ "$format" = 1 ]; then before=$boot_then boot_then=$boot_now; fi
        case $kind in
        value | keep | ethtool | argument) [[ $before =~ ^[A-Za-z0-9+/]*=*$ ]] || die 3 "$state_folder/state is damaged: $target" ;;
        esac
        record "$kind" "$target" "$before" "$boot_then"
    done <"$state_folder/state"
    [ "${#recorded_kinds[@]}" -gt 0 ] || die 3 "$state_folder/state is empty or damaged"
}

# What an apply that is not reverted yet has changed; for the plan, which anybody may look at.
look_at_state() {
    if [ -r "$state_folder/state" ]; then load_state; fi
}

# was_before PATH TEXT: a value that this boot began with, or somebody set before the first apply.
was_before() {
    local at=${is_recorded["value $1"]:-}
    [ -n "$at" ] && ! is_stale "$at" && decode "${recorded_befores[at]}" && [ "$decoded" = "$2" ]
}

# is_stale AT: a value of an earlier boot. It went with that; its interrupt or drive may be another one by now.
is_stale() {
    case ${recorded_kinds[$1]} in
    value | keep | ethtool) [ "${recorded_boots[$1]}" != "$boot_now" ] ;;
    *) return 1 ;;
    esac
}

# record KIND TARGET BEFORE [BOOT]: the first word on a target stands, as long as it counts. What is to be kept may have
# been set before, and is ours by now.
record() {
    local at=${is_recorded["$1 $2"]:-${is_recorded["value $2"]:-}}
    if [ -z "$at" ]; then
        at=${#recorded_kinds[@]}
    elif ! is_stale "$at"; then
        return 0
    fi
    is_recorded["$1 $2"]=$at
    recorded_kinds[at]=$1 recorded_targets[at]=$2 recorded_boots[at]=${4:-$boot_now} recorded_befores[at]=$3
}

# Whole or not at all, and on the disk before anything is changed.
save_state() {
    local at
    (
        umask 077
        printf 'engine-tuning\t2\n'
        for at in "${!recorded_kinds[@]}"; do
            printf '%s\t%s\t%s\t%s\n' "${recorded_kinds[at]}" "${recorded_targets[at]}" "${recorded_boots[at]}" "${recorded_befores[at]}"
        done
    ) >"$state_folder/state.new" && sync "$state_folder/state.new" &&
        mv "$state_folder/state.new" "$state_folder/state" && sync "$state_folder" && return
    rm -f "$state_folder/state.new"
    rmdir "$state_folder" 2>/dev/null || true
    die 3 "$state_folder/state cannot be written; nothing was changed"
}

# before_of KIND TARGET: what `record` keeps of it, in `before`.
before_of() {
    local path=$root$2
    before=''
    case $1 in
    value | keep | ethtool | argument)
        read_raw "$1" "$2" || return 1
        encode "$raw"
        before=$encoded ;;
    file)
        before=absent
        [ ! -e "$path" ] || before="$(stat -c '%a %u %g %.9Y' "$path") $(base64 -w0 "$path")" ;;
    esac
}

# Folders that a file needs and that are not there, outermost first.
record_folders() {
    local folder=${1%/*} missing=()
    while [ -n "$folder" ] && [ ! -e "$root$folder" ]; do
        missing=("$folder" "${missing[@]}")
        folder=${folder%/*}
    done
    for folder in "${missing[@]}"; do record folder "$folder" absent; done
}

# restore KIND TARGET BEFORE: 0 as it was, 1 failed, with why in `problem`.
restore() {
    local path=$root$2
    problem=''
    case $1 in
    value | keep | ethtool)
        # What is gone (a drive pulled, a card renamed) took its values along.
        if ! read_raw "$1" "$2"; then
            [ "$1" != ethtool ] || [ ! -e "$root/sys/class/net/${2%%:*}" ] || { problem='ethtool does not answer'; return 1; }
            printf 'gone        %s: nothing to put back\n' "$2"
            return 0
        fi
        decode "$3"
        [ "$raw" = "$decoded" ] || write_raw "$1" "$2" "$decoded" ;;
    argument)
        decode "$3"
        restore_argument "$2" "$decoded" ;;
    file) restore_file "$2" "$3" ;;
    folder) rmdir "$path" 2>/dev/null || [ ! -d "$path" ] || printf 'kept        %s: others have put files there\n' "$2" ;;
    esac
}

restore_file() {
    local path=$root$1 before mode owner group time content menu=0
    [ "$1" != "$grub_file" ] || [ ! -e "$root/boot/grub/grub.cfg" ] || menu=1
    rm -f "$path.engine-tuning"
    before_of file "$1"
    if [ "$before" != "$2" ]; then
        # What never came into the menu needs no way out of it: whatever kept it out would be in the way again.
        [ "$menu" = 0 ] || [ "$before" = absent ] || in_menu "$path" || menu=0
        if [ "$2" = absent ]; then
            rm -f "$path" || { problem='cannot be removed'; return 1; }
        else
            read -r mode owner group time content <<<"$2"
            # Complete under another name first: a kill leaves one of the two, never half a file.
            { base64 -d <<<"$content" >"$path.engine-tuning" && chown "$owner:$group" "$path.engine-tuning" &&
                chmod "$mode" "$path.engine-tuning" && touch -d "@$time" "$path.engine-tuning" &&
                mv "$path.engine-tuning" "$path"; } || { problem='cannot be written'; return 1; }
        fi
    fi
    [ "$menu" = 0 ] || make_menu
}
