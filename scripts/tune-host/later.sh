# What files behind ours make of our sysctls at a boot: all of sysctl.d are read in the order of their names, whichever
# folder they are in, and the last word on a key counts. Sourced by tune-host.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # root and notes are the other files'

# Of files with one name only that of the first folder is read.
sysctl_folders=(/etc/sysctl.d /run/sysctl.d /usr/local/lib/sysctl.d /usr/lib/sysctl.d /lib/sysctl.d)

# read_sysctl LINE: what it sets, in `key` (with dots) and `value`; 1: nothing.
read_sysctl() {
    local words
    [[ $1 =~ ^[[:blank:]]*-?[[:blank:]]*([a-z0-9_./]+)[[:blank:]]*=(.*)$ ]] || return 1
    key=${BASH_REMATCH[1]//\//.}
    read -ra words <<<"${BASH_REMATCH[2]}"
    value=${words[*]}
}

# read_later_values NAME: what files with later names set, in the caller's `later`, and which file does, in its `setter`.
read_later_values() {
    local folder file name line key value names=()
    local -A file_of=()
    for folder in "${sysctl_folders[@]}"; do
        for file in "$root$folder"/*.conf; do
            name=${file##*/}
            if [[ $name > $1 && -z ${file_of[$name]:-} ]]; then file_of[$name]=$folder/$name; fi
        done
    done
    [ "${#file_of[@]}" -gt 0 ] || return 0
    mapfile -t names < <(printf '%s\n' "${!file_of[@]}" | sort)
    for name in "${names[@]}"; do
        file=$root${file_of[$name]}
        if [ -L "$file" ] && [[ $(readlink "$file") == /* ]]; then file=$root$(readlink "$file"); fi
        if [ ! -f "$file" ] || [ ! -r "$file" ]; then continue; fi
        while IFS= read -r line || [ -n "$line" ]; do
            read_sysctl "$line" || continue
            later[$key]=$value setter[$key]=${file_of[$name]}
        done <"$file"
    done
}

# is_no_less A B: each number of A is as large as that of B at its place.
is_no_less() {
    local at has wants
    read -ra has <<<"$1"
    read -ra wants <<<"$2"
    for at in "${!wants[@]}"; do
        [[ ${has[at]:-} =~ ^[0-9]{1,18}$ && ${wants[at]} =~ ^[0-9]{1,18}$ ]] || return 1
        [ "${has[at]}" -ge "${wants[at]}" ] || return 1
    done
}

# note_later_values NAME STAGED: of our file, as it goes to /etc/sysctl.d.
note_later_values() {
    local line key value rule='at least'
    local -A later=() setter=()
    read_later_values "$1"
    while IFS= read -r line; do
        [[ $line =~ ^#\ (at\ least|exactly)$ ]] && rule=${BASH_REMATCH[1]}
        read_sysctl "$line" || continue
        if [ -z "${setter[$key]:-}" ] || [ "${later[$key]}" = "$value" ]; then continue; fi
        if [ "$rule" = 'at least' ] && is_no_less "${later[$key]}" "$value"; then continue; fi
        notes+=("${setter[$key]} sets $key = ${later[$key]} at each boot, behind $1, which wants $value: take it out there")
    done <"$2"
}
