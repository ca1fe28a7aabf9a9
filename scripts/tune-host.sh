#!/usr/bin/env bash
# Prepares a host for `engine` as tuning/README.md describes it, and puts everything back.
#
#   scripts/tune-host.sh           shows what it would change, and asks
#   scripts/tune-host.sh check     only shows; exit 1 if there is something to change
#   scripts/tune-host.sh apply     the same as without a word; --yes does not ask
#   scripts/tune-host.sh revert    puts back every value and file as it was before the first apply; after a reboot,
#                                  which took the values along, the files
#
#   --cores LIST     the engine's processors (0-30): governor only there; with --nic its send queues go there and its
#                    interrupts elsewhere, off the cores' siblings too where others are left
#   --nic NAME       the network card of the load, for its queues, rings and offloads
#   --mtu N          its MTU (with --nic): the switch must take it too. What stands on the card, a VLAN or a bridge,
#                    has one of its own
#   --huge-pages N   reserved 2 MiB pages, at least
#   --boot           also writes the kernel's arguments, which are only printed otherwise: with grubby (Fedora, RHEL)
#                    those that all kernels have alike, or into /etc/default/grub.d and with update-grub (Debian, Ubuntu)
#   --only LIST      only these parts: network,memory,cpu,drives,nic,files
#   --dry-run        shows what apply or revert would do, and does nothing
#   --yes            does not ask
#   --root DIR       another root folder (default /)
#
# What was before is in /var/lib/engine-tuning ($ENGINE_TUNING_STATE), on the disk before the first change. A failure
# half-way puts everything back; after a kill or a power cut `revert` does.
# Exit: 0 done or nothing to do, 1 there is something to change, 2 wrong words, 3 failed or not allowed.
set -euo pipefail
shopt -s nullglob
# Debian's users have no ethtool and no update-grub in theirs.
PATH=$PATH:/usr/sbin:/sbin
# What tools say is read here.
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tuning=$here/../tuning
# shellcheck source=scripts/tune-host/state.sh
. "$here/tune-host/state.sh"
# shellcheck source=scripts/tune-host/change.sh
. "$here/tune-host/change.sh"
# shellcheck source=scripts/tune-host/plan.sh
. "$here/tune-host/plan.sh"
# shellcheck source=scripts/tune-host/later.sh
. "$here/tune-host/later.sh"
# shellcheck source=scripts/tune-host/boot.sh
. "$here/tune-host/boot.sh"

root='' command='' cores='' nic='' mtu='' huge_pages='' only='' boot=0 dry_run=0 yes=0

die() {
    local status=$1
    shift
    printf 'tune-host: %s\n' "$@" >&2
    exit "$status"
}

options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        esac
        case $1 in
        check | apply | revert) [ -z "$command" ] || die 2 "one of check, apply and revert, not '$command' and '$1'"; command=$1 ;;
        --cores | --nic | --mtu | --huge-pages | --only | --root)
            # An unset variable must not make an image this host, or a part all.
            [ -n "${2:-}" ] || die 2 "$1 needs a value"
            case $1 in
            --cores) cores=$2 ;; --nic) nic=$2 ;; --mtu) mtu=$2 ;; --huge-pages) huge_pages=$2 ;;
            --only) only=$2 ;; --root) root=${2%/} ;;
            esac
            shift ;;
        --boot) boot=1 ;;
        --dry-run) dry_run=1 ;;
        --yes) yes=1 ;;
        -h | --help) sed -n '2,/^set -e/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) die 2 "unknown: '$1'; see scripts/tune-host.sh --help" ;;
        esac
        shift
    done
}

options_fit() {
    local part parts number='^[0-9]{1,9}$' list='^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$'
    [[ -z $cores || $cores =~ $list ]] || die 2 "--cores '$cores': a list like 0-30 or 0,2,4-7"
    [[ -z $mtu || $mtu =~ $number ]] || die 2 "--mtu '$mtu': a number like 9000"
    [[ -z $huge_pages || $huge_pages =~ $number ]] || die 2 "--huge-pages '$huge_pages': a number of pages like 1024"
    [ -z "$mtu" ] || [ -n "$nic" ] || die 2 '--mtu needs --nic NAME'
    [ -z "$root" ] || [ -d "$root" ] || die 2 "--root '$root': no such folder"
    [ -z "$nic" ] || { [[ $nic != */* && $nic != .* ]] && [ -d "$root/sys/class/net/$nic" ]; } ||
        die 2 "--nic '$nic': no such network card; there are: $(cd "$root/sys/class/net" 2>/dev/null && echo *)"
    mapfile -d , -t parts < <(printf %s "$only")
    for part in "${parts[@]}"; do
        [[ $part =~ ^(network|memory|cpu|drives|nic|files)$ ]] ||
            die 2 "--only '$part': one of network, memory, cpu, drives, nic, files"
    done
    expand_cores
}

# Whoever changes a host must be root; a folder that is somebody's own needs nobody's leave.
may_change() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || die 3 "$1 changes this host and needs root; run: sudo scripts/tune-host.sh $original"
}

state_folder=''
options "$@"
original="${*:-apply}"
options_fit
state_folder=${ENGINE_TUNING_STATE:-$root/var/lib/engine-tuning}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

case ${command:-apply} in
check)
    look_at_state
    plan
    show
    [ "$differing" = 0 ] || exit 1 ;;
apply)
    look_at_state
    plan
    show
    if [ "$differing" = 0 ] || [ "$dry_run" = 1 ]; then exit 0; fi
    may_change apply
    load_state
    if [ "$yes" = 0 ]; then
        printf 'Apply these %d changes? [y/N] ' "$differing"
        read -r answer || answer=''
        [[ $answer =~ ^[yY] ]] || die 3 'nothing was changed; without a question: scripts/tune-host.sh apply --yes'
    fi
    apply ;;
revert)
    [ "$dry_run" = 1 ] || may_change revert
    revert ;;
esac
