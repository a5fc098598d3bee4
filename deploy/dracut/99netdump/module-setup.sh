#!/bin/bash
# dracut module: netdump as the dump target of the distribution's kdump (kdump-utils of Fedora and RHEL, kdump of SUSE).
# Variables of dracut that it uses: initdir, kernel, moddir, dracutmodules, add_dracutmodules, force_add_dracutmodules.

# dracut looks for commands in /usr and its own folders only; pip and links of administrators are in /usr/local.
netdump_command() {
    PATH=$PATH:/usr/local/bin type -P netdump
}

# Only in images for a capture kernel: it brings a host's key along. kdump-utils sets IN_KDUMP, SUSE adds the module
# kdump; anybody else asks for it with --add netdump.
check() {
    if ! [[ -e /etc/netdump/client.toml ]] || ! netdump_command >/dev/null; then
        return 1
    fi
    require_binaries chroot chmod || return 1
    [[ -n ${IN_KDUMP-} ]] && return 0
    # shellcheck disable=SC2154
    [[ " $dracutmodules $add_dracutmodules $force_add_dracutmodules " == *" kdump "* ]] && return 0
    return 255
}

depends() {
    return 0
}

install() {
    local NETDUMP_TREE_OPTIONS="" defaults=/etc/default/netdump
    # shellcheck source=/dev/null
    [[ -r $defaults ]] && . "$defaults"
    # The options may be quoted as in a shell: an interface and its settings are one word.
    eval "set -- $NETDUMP_TREE_OPTIONS"
    # shellcheck disable=SC2154
    if ! "$(netdump_command)" image tree --kernel "$kernel" "$@" "$initdir/netdump"; then
        dfatal "netdump: the dump target cannot be put into the image, for the reason above"
        exit 1 # found now rather than after a panic
    fi
    inst_multiple chroot chmod
    # shellcheck disable=SC2154
    inst_script "$moddir/kdump-pre.sh" /usr/lib/dracut/modules.d/99netdump/kdump-pre.sh
}
