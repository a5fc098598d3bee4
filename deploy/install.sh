#!/bin/sh
# Installs what a distribution's package would bring beside the command netdump: units, hooks, settings. Removes them.
set -eu

usage() {
    cat <<'TEXT'
usage: sh install.sh [--root DIR] [--remove] WHAT…

  collector         netdump-collector.service, the renewal of its certificate, its numbers for Prometheus,
                    the user netdump and /var/lib/netdump
  host              netdump-arm.service and its helpers: arm at boot, after changes, renew, send what was saved
  dracut            netdump as the dump target of kdump on Fedora, RHEL and SUSE
  initramfs-tools   netdump as the dump target of kdump-tools on Debian and Ubuntu

--root DIR    the root of the system to install to, by default this one
--remove      stop the units, and take away what was installed

/etc/default/netdump and the settings of initramfs-tools stay if they are there already, and if somebody changed them.
Units, helpers and hooks do not: they are replaced, and go with --remove, whatever was changed in them, also by
"systemctl edit --full"; what "systemctl edit" made beside them stays. What dracut and initramfs-tools have in common
(netdump-kdump.*, netdump-renew.*, rebuild-kdump) goes with either of them: install the one that is left again.
TEXT
}

here=$(cd "$(dirname "$0")" && pwd)
root=
remove=
gone= # units that were removed

# $1: file here. $2: where to. $3: mode, default 644.
put() {
    if [ -z "$remove" ]; then
        install -D -m "${3:-644}" "$here/$1" "$root$2"
        echo "$root$2"
    elif [ -e "$root$2" ]; then
        rm -- "$root$2"
        echo "$root$2 is removed"
        case $2 in /etc/systemd/system/*) gone="$gone ${2##*/}" ;; esac
    fi
}

# The same for settings, which are the administrator's once they are there.
put_settings() {
    if [ -e "$root$2" ] && { [ -z "$remove" ] || ! cmp -s "$here/$1" "$root$2"; }; then
        echo "$root$2 stays as it is"
    else
        put "$@"
    fi
}

# A folder of our own, in which nothing is left. $1: folder.
leave() {
    [ -z "$remove" ] || [ ! -d "$root$1" ] || rmdir --ignore-fail-on-non-empty -- "$root$1"
}

# Before their files go. $@: units.
stop() {
    [ -n "$remove" ] || return 0
    for unit in "$@"; do
        [ ! -e "$root/etc/systemd/system/$unit" ] || tell systemctl disable --now "$unit"
    done
}

# Ask something of the running system; there is nothing to ask of another root.
tell() {
    [ -z "$root" ] || return 0
    command -v "$1" >/dev/null 2>&1 || return 0
    "$@" || echo "install.sh: $* failed" >&2
}

# After units came or went: what has failed and is gone would be listed as failed until the next boot.
reload_units() {
    [ -z "$root" ] && [ -d /run/systemd/system ] || return 0 # as in a chroot, where nobody is to be told
    tell systemctl daemon-reload
    for unit in $gone; do
        ! systemctl is-failed --quiet "$unit" || tell systemctl reset-failed "$unit"
    done
}

install_collector() {
    stop netdump-metrics.timer netdump-renew-collector.timer netdump-collector.service
    for unit in collector.service renew-collector.service renew-collector.timer metrics.service metrics.timer; do
        put "systemd/netdump-$unit" "/etc/systemd/system/netdump-$unit"
    done
    put systemd/netdump.sysusers /usr/lib/sysusers.d/netdump.conf
    put systemd/netdump.tmpfiles /usr/lib/tmpfiles.d/netdump.conf
    if [ -z "$remove" ]; then
        tell systemd-sysusers netdump.conf
        tell systemd-tmpfiles --create netdump.conf
    fi
    reload_units
}

# What armed hosts and those with a distribution's kdump have in common. $1: the unit of the other kind.
install_common() {
    [ -z "$remove" ] || [ ! -e "$root/etc/systemd/system/$1" ] || return 0
    stop netdump-renew.timer
    put_settings default/netdump /etc/default/netdump
    for unit in renew.service renew.timer; do
        put "systemd/netdump-$unit" "/etc/systemd/system/netdump-$unit"
    done
}

install_host() {
    stop netdump-rearm.path netdump-send-saved.timer netdump-arm.service
    install_common netdump-kdump.path
    for unit in arm.service rearm.service rearm.path send-saved.service send-saved.timer; do
        put "systemd/netdump-$unit" "/etc/systemd/system/netdump-$unit"
    done
    put systemd/send-saved /usr/lib/netdump/send-saved 755
    put systemd/rearm /usr/lib/netdump/rearm 755
    put udev/98-netdump.rules /etc/udev/rules.d/98-netdump.rules
    # Where nobody looks into these folders they do no harm.
    put network/rearm-on-network /etc/NetworkManager/dispatcher.d/90-netdump 755
    put network/rearm-on-network /etc/networkd-dispatcher/routable.d/90-netdump 755
    put network/rearm-on-network /etc/network/if-up.d/netdump 755
    leave /usr/lib/netdump
    reload_units
    [ ! -S /run/udev/control ] || tell udevadm control --reload
}

# What keeps the image of a distribution's kdump up to date with the bundle.
install_kdump() {
    stop netdump-kdump.path
    install_common netdump-arm.service
    for unit in kdump.path kdump.service; do
        put "systemd/netdump-$unit" "/etc/systemd/system/netdump-$unit"
    done
    put kdump/rebuild-kdump /usr/lib/netdump/rebuild-kdump 755
    leave /usr/lib/netdump
    reload_units
}

install_dracut() {
    install_kdump
    for script in module-setup.sh kdump-pre.sh; do
        put "dracut/99netdump/$script" "/usr/lib/dracut/modules.d/99netdump/$script" 755
    done
    leave /usr/lib/dracut/modules.d/99netdump
}

install_initramfs_tools() {
    install_kdump
    put_settings initramfs-tools/conf.d/netdump /etc/initramfs-tools/conf.d/netdump
    put initramfs-tools/hooks/netdump /etc/initramfs-tools/hooks/netdump 755
    put initramfs-tools/scripts/init-premount/netdump /etc/initramfs-tools/scripts/init-premount/netdump 755
}

while [ $# -ge 1 ]; do
    case $1 in
        -h | --help | help)
            usage
            exit 0
            ;;
        --root)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            root=${2%/}
            shift 2
            ;;
        --remove)
            remove=yes
            shift
            ;;
        *) break ;;
    esac
done
[ $# -ge 1 ] || { usage >&2; exit 2; }
for what in "$@"; do # all or nothing: a word too many, or a late --root, installs nothing to the running system
    case $what in
        collector | host | dracut | initramfs-tools) ;;
        *)
            echo "install.sh: there is no $what" >&2
            usage >&2
            exit 2
            ;;
    esac
done
for what in "$@"; do
    case $what in
        initramfs-tools) install_initramfs_tools ;;
        *) "install_$what" ;;
    esac
done
