# SPDX-License-Identifier: MIT
# says.bash -- loaded by bats files: after `run`, the exit status and the words of the one message.
#
#     says 1 acts.mpk.zst "expected (N, 1280)"
#
# and of a command that is to fail, and to leave no file no.mpk.zst:
#
#     refused acts.mpk.zst "expected (N, 1280)" -- sae-encode --sae sae -o no.mpk.zst acts.mpk.zst

# shellcheck shell=bash disable=SC2154         # bats sets status, output, lines

says() {
    [ "$status" = "$1" ] || { echo "exit $status: $output"; return 1; }
    shift
    for word; do
        [[ $output == *"$word"* ]] || { echo "no '$word' in: $output"; return 1; }
    done
    [ "${#lines[@]}" -le 2 ] || { echo "more than a message: $output"; return 1; }
}

# Two files of different bytes. (A command behind ! fails no test.)
differ() { ! cmp -s "$1" "$2"; }

refused() {
    local words=()
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    run "${@:2}"
    says 1 "${words[@]}" || return 1
    [ "${#lines[@]}" = 1 ] || return 1
    [ ! -e no.mpk.zst ] || return 1
}
