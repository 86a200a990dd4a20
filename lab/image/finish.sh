#!/bin/sh
# Makes a host out of a freshly unpacked Debian; runs in its root ($1) before it is packed.
set -eu
root=$1 from=$2
install -D -m 644 "$from/sshd.conf" "$root/etc/ssh/sshd_config.d/lab.conf"
install -D -m 644 "$from/ssh.service.conf" "$root/etc/systemd/system/ssh.service.d/lab.conf"
install -D -m 440 "$from/sudoers" "$root/etc/sudoers.d/lab"
for user in keeper robot; do
  chroot "$root" useradd --create-home --shell /bin/bash "$user"
done
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
# What a container has no use for, and what would wait for hardware.
for unit in getty@tty1.service systemd-binfmt.service systemd-remount-fs.service \
  apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service; do
  chroot "$root" systemctl mask -q "$unit"
done
