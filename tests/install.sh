#!/bin/bash
# SPDX-License-Identifier: MIT
# install.sh -- make install puts programs, manual pages, completion and data where they find each other; uninstall
# takes all of it away again.
set -eu
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
unset SDSTEER_DATA

fail() { echo "install.sh: $*" >&2; exit 1; }

make -s install DESTDIR="$root" PREFIX=/opt/sd
for source in src/tools/*.c; do
    tool=$(basename -s .c "$source")
    [ -x "$root/opt/sd/bin/$tool" ] || fail "$tool is not installed"
    [ -s "$root/opt/sd/share/man/man1/$tool.1" ] || fail "$tool has no manual page"
    [ -s "$root/opt/sd/share/bash-completion/completions/$tool" ] || fail "$tool has no completion"
done
[ -s "$root/opt/sd/share/sdsteer/minisd/model/model_index.json" ] || fail "the small model is not installed"

# From another folder the installed program finds the installed lists.
count=$(cd / && "$root/opt/sd/bin/sd-assemble-prompts" | wc -l)
[ "$count" = 200 ] || fail "the installed sd-assemble-prompts wrote $count prompts, expected 200"

make -s uninstall DESTDIR="$root" PREFIX=/opt/sd
left=$(find "$root" ! -type d)
[ -z "$left" ] || fail "uninstall left: $left"
