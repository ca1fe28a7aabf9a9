# shellcheck shell=bash
# Sourced by black-box scripts that have mounts or networks of their own.

# need_namespaces FLAG…: ends the script, with what mends it, unless `unshare FLAG…` works here.
need_namespaces() {
    local mend='run it as root; in a container, with --cap-add SYS_ADMIN' switch file
    if unshare "$@" true 2>/dev/null; then return; fi
    # Ubuntu's switch, and Debian's.
    for switch in kernel.apparmor_restrict_unprivileged_userns=0 kernel.unprivileged_userns_clone=1; do
        file=${switch%=*}
        file=/proc/sys/${file/.//}
        if [ -r "$file" ] && [ "$(<"$file")" != "${switch#*=}" ]; then mend="sudo sysctl -w $switch"; fi
    done
    echo "'unshare $*' is refused here; mend: $mend"
    exit 1
}
