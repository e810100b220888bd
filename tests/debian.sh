#!/bin/bash
# SPDX-License-Identifier: MIT
# debian.sh -- builds and tests the last commit on a fresh Debian of any release: the smallest system that debootstrap
# makes, whose packages are what install-deps names.
#
#     SDSTEER_SUITE=trixie tests/debian.sh [COMMAND]      as root; `make test WERROR=1`, or COMMAND in the clone
#
# Takes 2 GB under TMPDIR until it ends, and Debian's servers (MIRROR). Skipped (77) where SDSTEER_SUITE is not set, or
# what it needs is missing.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${SDSTEER_SUITE-}" ]; then
    echo "SDSTEER_SUITE does not name a release of Debian"
    exit 77
fi
for needed in debootstrap unshare git; do
    command -v $needed >/dev/null || { echo "$needed is missing"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "a system is made as root only"; exit 77; }

system=$(mktemp -d)
chmod 755 "$system"          # for apt, which reads as nobody
trap 'rm -rf "$system"' EXIT
mirror=${MIRROR-http://deb.debian.org/debian}
said=$(debootstrap --variant=minbase "$SDSTEER_SUITE" "$system" "$mirror" 2>&1) || { tail -n 5 <<<"$said"; exit 1; }
git clone -q "$root" "$system/root/sdsteer"
# Mounts are gone with the shell that made them. The release's list of packages may be older than it says (a mirror's).
# shellcheck disable=SC2016
SYSTEM=$system COMMAND=${1-make test WERROR=1} unshare --mount --pid --fork bash -eu -c '
    mount -t proc proc "$SYSTEM/proc"
    mount --rbind /dev "$SYSTEM/dev"
    echo "Acquire::Check-Valid-Until \"false\";" >"$SYSTEM/etc/apt/apt.conf.d/99mirror"
    exec chroot "$SYSTEM" env -i PATH="$PATH" HOME=/root bash -c "
        apt-get update -q >/dev/null && apt-get install -qy make >/dev/null && cd /root/sdsteer && $COMMAND"'
