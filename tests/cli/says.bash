# SPDX-License-Identifier: MIT
# says.bash -- loaded by bats files: after `run`, the exit status and the words of the one message.
#
#     says 1 acts.mpk.zst "expected (N, 1280)"

# shellcheck shell=bash disable=SC2154         # bats sets status, output, lines

says() {
    [ "$status" = "$1" ] || { echo "exit $status: $output"; return 1; }
    shift
    for word; do
        [[ $output == *"$word"* ]] || { echo "no '$word' in: $output"; return 1; }
    done
    [ "${#lines[@]}" -le 2 ]
}
