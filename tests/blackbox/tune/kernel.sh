# Read by bash before tune-host.sh: does to the root folder $TREE, between its commands, what the kernel does along with
# a change. What a scheduler or governor is tuned with goes with it and comes again as it is by default, and reserved
# pages are spread over the nodes. With $REFUSES_ONCE it does not take a scheduler at first.
# shellcheck shell=bash

# kept_by FILE WORD FOLDER: as long as the file has the word, the folder is there. 1: it is new.
kept_by() {
    local now
    read -r now <"$1"
    if [[ " $now " != *" $2 "* ]]; then
        rm -rf "$3"
    elif [ ! -d "$3" ]; then
        mkdir "$3"
        return 1
    fi
}

follow_scheduler() {
    local queue=$TREE/sys/block/nvme0n1/queue now
    read -r now <"$queue/scheduler"
    if [ -n "${REFUSES_ONCE:-}" ] && [ "$now" = 'none [mq-deadline]' ]; then
        echo '[none] mq-deadline' >"$queue/scheduler"
        echo 'the scheduler is refused once' >&2
        REFUSES_ONCE=
    fi
    if ! kept_by "$queue/scheduler" '[mq-deadline]' "$queue/iosched"; then
        echo 500 >"$queue/iosched/read_expire"
        echo 64 >"$queue/nr_requests"
    fi
    read -r now <"$queue/nr_requests"
    if [ "$now" != "${seen_requests:-$now}" ] && [ -d "$queue/iosched" ]; then echo $((now * 3 / 4)) >"$queue/iosched/async_depth"; fi
    seen_requests=$now
}

follow_governors() {
    local cpu=$TREE/sys/devices/system/cpu now up down
    kept_by "$cpu/cpu0/cpufreq/scaling_governor" ondemand "$cpu/cpufreq/ondemand" || echo 95 >"$cpu/cpufreq/ondemand/up_threshold"
    local bounds=$cpu/cpu1/cpufreq/conservative
    if ! kept_by "$cpu/cpu1/cpufreq/scaling_governor" conservative "$bounds"; then
        echo 80 >"$bounds/up_threshold"
        echo 20 >"$bounds/down_threshold"
    fi
    if [ -d "$bounds" ]; then
        read -r up <"$bounds/up_threshold"
        read -r down <"$bounds/down_threshold"
        # Refused.
        if [ "$down" -ge "$up" ]; then
            echo "$seen_up" >"$bounds/up_threshold"
            echo "$seen_down" >"$bounds/down_threshold"
        else
            seen_up=$up seen_down=$down
        fi
    fi
    read -r now <"$cpu/cpu2/cpufreq/scaling_governor"
    read -r up <"$cpu/cpu2/cpufreq/scaling_setspeed"
    if [ "$now" != userspace ]; then
        echo '<unsupported>' >"$cpu/cpu2/cpufreq/scaling_setspeed"
    elif [ "$up" = '<unsupported>' ]; then
        echo 800000 >"$cpu/cpu2/cpufreq/scaling_setspeed"
    fi
}

follow_pages() {
    local file=hugepages/hugepages-2048kB/nr_hugepages now node
    read -r now <"$TREE/sys/kernel/mm/$file"
    if [ "$now" != "${seen_pages:-$now}" ]; then
        for node in 0 1; do echo $((now / 2)) >"$TREE/sys/devices/system/node/node$node/$file"; done
    fi
    seen_pages=$now
}

if [ "$0" = "$FOLLOWED" ]; then
    set -T
    trap 'case $BASH_COMMAND in read_raw*) follow_scheduler; follow_governors; follow_pages ;; esac' DEBUG
fi
