# Reading and changing single things, and all of them with a way back. Sourced by tune-host.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # root and the plan are the other files'

of_root() {
    "${root:+$root/usr/sbin/}$1" "${@:2}"
}

root_has() {
    command -v "${root:+$root/usr/sbin/}$1" >/dev/null
}

# The chosen word of a list that shows it in brackets ("always [madvise] never").
is_choice() {
    [[ $1 =~ ^[^][]*\[([^][]+)\][^][]*$ ]]
}

# read_file FILE: its text in `raw`; what is empty counts as what cannot be read. Not as `cat` and `read -d` do it: that is
# a process for each value, and this takes a byte at a time, of which sysctls have only the first.
read_file() {
    local lines=()
    raw=''
    [ -f "$1" ] || return 1
    { mapfile -t lines <"$1"; } 2>/dev/null || return 1
    [ "${#lines[@]}" -gt 0 ] || return 1
    printf -v raw '%s\n' "${lines[@]}"
    raw=${raw%$'\n'}
}

# read_raw KIND TARGET: its text in `raw`, byte for byte but for the newline at the end; of a choice the chosen word.
read_raw() {
    raw=''
    case $1 in
    ethtool) read_ethtool "$2"; return ;;
    argument) read_argument "$2"; return ;;
    esac
    read_file "$root$2" || return 1
    if is_choice "$raw"; then raw=${BASH_REMATCH[1]}; fi
}

# NIC:ring:NAME current value; NIC:ring-max:NAME the hardware's; NIC:offload:NAME as read_offload has it.
read_ethtool() {
    local card what name words
    IFS=: read -r card what name <<<"$1"
    case $what in
    ring | ring-max)
        ask_ethtool -g "$card" || return 1
        words=${answer#*Current hardware settings:}
        [ "$what" = ring ] || words=${answer%%Current hardware settings:*}
        [[ $'\n'$words =~ $'\n'${name^^}:[[:blank:]]*([0-9]+) ]] || return 1
        raw=${BASH_REMATCH[1]} ;;
    offload)
        ask_ethtool -k "$card" || return 1
        read_offload "$name" ;;
    esac
}

# read_offload NAME: from ethtool's `answer`, in `raw`: on, off or, of what somebody wants and the kernel cannot give
# because something else is off, "off [requested on]". 1: nobody can change it. A name may stand for several features,
# which then follow behind tabs; it is on if one of them is, and says no more than that.
read_offload() {
    local line state='' inside=0 features=()
    while IFS= read -r line; do
        [[ $line == $'\t'* ]] || inside=0
        if [ "$inside" = 1 ]; then features+=("${line##*: }"); fi
        if [[ $line == "$1: "* ]]; then inside=1 state=${line#*: }; fi
    done <<<"$answer"
    [ "${#features[@]}" -gt 0 ] || features=("$state")
    for line in "${features[@]}"; do
        [[ $line =~ ^(on|off)($|\ \[requested) ]] || continue
        raw=${state%% *}
        [ "$raw" != off ] || [[ $line != *'[requested on]' ]] || { raw=$line; break; }
    done
    [ -n "$raw" ]
}

# ask_ethtool FLAG NIC: its `answer`, asked for once as long as nothing is changed with it.
declare -A ethtool_answers=()
ask_ethtool() {
    answer=${ethtool_answers["$*"]:-}
    [ -z "$answer" ] || return 0
    answer=$(of_root ethtool "$@" 2>/dev/null) || return 1
    ethtool_answers["$*"]=$answer
}

# write_raw KIND TARGET TEXT: 1 with why in `problem` if the kernel did not take it, whole.
write_raw() {
    local text=$3 card what name shown
    if [ "$1" = argument ]; then
        tell_grubby ALL "$2" "$text" || return 1
    elif [ "$1" = ethtool ]; then
        ethtool_answers=()
        IFS=: read -r card what name <<<"$2"
        case $what in
        ring) problem=$(of_root ethtool -G "$card" "$name" "$text" 2>&1) || return 1 ;;
        offload) problem=$(of_root ethtool -K "$card" "$name" "$text" 2>&1) || return 1 ;;
        esac
    else
        # A file of another root does not choose by itself as the kernel's do.
        if [ -n "$root" ] && read_file "$root$2" && is_choice "$raw"; then
            shown=$raw
            shown=${shown/\[${BASH_REMATCH[1]}\]/${BASH_REMATCH[1]}}
            text=" $shown "
            [[ $text == *" $3 "* ]] || { problem="'$3' is none of: $shown"; return 1; }
            text=${text/ $3 / [$3] }
            text=${text# }
            text=${text% }
        fi
        { printf '%s\n' "$text" >"$root$2"; } 2>"$stage/problem" || {
            problem=$(<"$stage/problem")
            problem=${problem##*: }
            return 1
        }
    fi
    problem=''
    if read_raw "$1" "$2" && same "$2" "$raw" "$3"; then return 0; fi
    problem="the kernel made it '$raw'"
    return 1
}

# same TARGET A B: whether two texts mean the same: blanks count once, masks of processors without leading zeros.
same() {
    local one other
    read -ra one <<<"$2"
    read -ra other <<<"$3"
    if [[ $1 == */xps_cpus ]]; then
        mask_of "$2"
        one=("$mask")
        mask_of "$3"
        other=("$mask")
    fi
    [ "${one[*]}" = "${other[*]}" ]
}

# mask_of TEXT: without commas and leading zeros, in `mask`.
mask_of() {
    mask=${1//,/}
    mask=${mask#"${mask%%[!0]*}"}
    mask=${mask,,}
}

# install_file TARGET STAGED: under another name first, so that nobody ever reads half of it.
install_file() {
    local path=$root$1
    problem=$({ install -D -m 644 "$2" "$path.engine-tuning" && mv "$path.engine-tuning" "$path"; } 2>&1)
}

change() {
    case $1 in
    file)
        install_file "$2" "$3" || return 1
        [ "$2" = "$grub_file" ] || return 0
        make_menu || return 1
        in_menu "$3" && return
        problem='update-grub left them out: another file of /etc/default/grub.d replaces GRUB_CMDLINE_LINUX'
        return 1 ;;
    *) write_raw "$1" "$2" "$3" ;;
    esac
}

is_steering() {
    [[ $1 == */xps_cpus || $1 == /proc/irq/* ]]
}

# Everything recorded, then everything changed; a failure puts back what this call changed.
apply() {
    local at before old_count befores undo renumbered=0
    lock_state
    load_state
    old_count=${#recorded_kinds[@]} undo=() befores=()
    [ "$old_count" = 0 ] || cp "$state_folder/state" "$stage/state"
    for at in "${!kinds[@]}"; do
        # What is steered is right only as long as the card is not set up anew, which may come before its turn.
        [ "${differs[at]}" = 1 ] || [ "${kinds[at]}" = keep ] ||
            { [ "$card_is_set_up" = 1 ] && is_steering "${targets[at]}"; } || continue
        [ "${kinds[at]}" != file ] || record_folders "${targets[at]}"
        before_of "${kinds[at]}" "${targets[at]}" || continue
        record "${kinds[at]}" "${targets[at]}" "$before"
        [ "${kinds[at]}" != argument ] || record wrote "${wanted[at]}" -
        befores[at]=$before
        # What it hangs on may be changed before its turn.
        [ "${kinds[at]}" != keep ] || undo+=("$at")
    done
    save_state
    trap 'roll_back "a signal came"' INT TERM HUP
    for at in "${!kinds[@]}"; do
        if [ -z "${befores[at]+set}" ] || [ "${kinds[at]}" = keep ]; then continue; fi
        if [[ ${targets[at]} == /proc/irq/* && ! -e $root${targets[at]} ]]; then renumbered=1; continue; fi
        undo+=("$at")
        if [ "${differs[at]}" = 0 ] && read_raw "${kinds[at]}" "${targets[at]}" && same "${targets[at]}" "$raw" "${wanted[at]}"; then continue; fi
        change "${kinds[at]}" "${targets[at]}" "${wanted[at]}" || roll_back "${targets[at]} could not be set to '${wanted[at]}': ${problem:-refused}"
    done
    trap - INT TERM HUP
    tell_managers
    [ "$renumbered" = 0 ] || echo "note        $nic has other interrupts since its rings changed: apply again, to place these"
    printf 'applied %d changes; to undo them: scripts/tune-host.sh revert%s\n' "$differing" "${root:+ --root $root}"
}

# What makes a card's driver set its queues and interrupts up anew.
sets_card_up() {
    [[ $1 == ethtool || $2 == /sys/class/net/*/mtu ]]
}

# in_undo_order KINDS TARGETS AT…: these places backwards, in `order`. First of all what sets a card up: it would undo
# what was put back before it.
in_undo_order() {
    local -n its_kinds=$1 its_targets=$2
    local at late=()
    order=()
    for at in "${@:3}"; do
        if sets_card_up "${its_kinds[at]}" "${its_targets[at]}"; then
            order=("$at" "${order[@]}")
        else
            late=("$at" "${late[@]}")
        fi
    done
    order+=("${late[@]}")
}

# put_back KINDS TARGETS BEFORES: the places of `order`; 1 if one cannot be put back, with why. What is kept comes last of
# all: a scheduler that is refused at first brings its tunables along, as they are by default, when it is taken.
put_back() {
    local -n its_kinds=$1 its_targets=$2 its_befores=$3
    local at failed=0 keeps=() rest=()
    for at in "${order[@]}"; do
        if [ "${its_kinds[at]}" = keep ]; then keeps+=("$at"); else rest+=("$at"); fi
    done
    put_these_back "${rest[@]}"
    put_these_back "${keeps[@]}"
    [ "$failed" = 0 ]
}

# Of put_back. What the kernel refuses once is tried once more behind the others: a lower bound has to stay below an
# upper one.
put_these_back() {
    local at again=()
    for at in "$@"; do
        restore "${its_kinds[at]}" "${its_targets[at]}" "${its_befores[at]}" && continue
        if [[ ${its_kinds[at]} == @(value|keep) ]] && ! sets_card_up "${its_kinds[at]}" "${its_targets[at]}"; then
            again+=("$at")
        else
            failed=1
            stays "${its_targets[at]}"
        fi
    done
    for at in "${again[@]}"; do
        restore "${its_kinds[at]}" "${its_targets[at]}" "${its_befores[at]}" && continue
        failed=1
        stays "${its_targets[at]}"
    done
}

stays() {
    printf 'tune-host: %s could not be put back: %s\n' "$1" "$problem" >&2
}

roll_back() {
    local at order
    trap '' INT TERM HUP
    printf 'tune-host: %s\n' "$1" >&2
    in_undo_order kinds targets "${undo[@]}"
    put_back kinds targets befores || die 3 'what it was is kept; run: scripts/tune-host.sh revert'
    for ((at = ${#recorded_kinds[@]} - 1; at >= old_count; at--)); do
        if [ "${recorded_kinds[at]}" = folder ]; then restore folder "${recorded_targets[at]}" absent; fi
    done
    if [ "$old_count" -gt 0 ]; then mv "$stage/state" "$state_folder/state"; else drop_state; fi
    die 3 'everything is as it was before; see what else --only can do without it'
}

revert() {
    local at order counted=() failed=0 stale=0
    if [ "$dry_run" = 0 ] && [ -d "$state_folder" ]; then lock_state; fi
    if [ ! -e "$state_folder/state" ]; then
        # A kill before the first change leaves at most an empty folder.
        [ "$dry_run" = 1 ] || [ ! -d "$state_folder" ] || drop_state
        echo "nothing to revert: $state_folder/state is not there"
        return 0
    fi
    load_state
    in_undo_order recorded_kinds recorded_targets "${!recorded_kinds[@]}"
    for at in "${order[@]}"; do
        if [ "${recorded_kinds[at]}" = wrote ]; then continue; fi
        if is_stale "$at"; then
            stale=$((stale + 1))
            continue
        fi
        counted+=("$at")
        [ "$dry_run" = 0 ] || printf 'would restore %s %s\n' "${recorded_kinds[at]}" "${recorded_targets[at]}"
    done
    order=("${counted[@]}")
    [ "$dry_run" = 1 ] || put_back recorded_kinds recorded_targets recorded_befores || failed=1
    [ "$stale" = 0 ] || printf 'note        %d values were set before the last boot, which took them along: not put back. What files of /etc set at that boot stays until the next one\n' "$stale"
    [ "$dry_run" = 0 ] || return 0
    [ "$failed" = 0 ] || die 3 "what was before is kept in $state_folder/state; mend the above and revert again"
    drop_state
    tell_managers
    printf 'put back %d values and files\n' "${#counted[@]}"
}

# systemd and udev read their files again; nothing is started, nothing triggered.
tell_managers() {
    [ -z "$root" ] || return 0
    [[ " ${kinds[*]:-} ${recorded_kinds[*]:-} " == *' file '* ]] || return 0
    if [ -d /run/systemd/system ]; then systemctl daemon-reload || echo 'note        systemctl daemon-reload failed; run it again'; fi
    if [ -S /run/udev/control ]; then udevadm control --reload || echo 'note        udevadm control --reload failed; run it again'; fi
}
