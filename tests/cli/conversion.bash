# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# conversion.bash -- for tests of sd-convert: what a folder's tensors are, and what is refused.

is() {          # what a folder is to be, the folder
    diff <(sed -n "s/^$1 //p" "$EXPECTED") <("$SDSTEER_TESTS/tensors.py" "$2") ||
        { "$SDSTEER_TESTS/tensors.py" -v "$2" | head -400; return 1; }
}

line() { "$SDSTEER_TESTS/tensors.py" "$2" | sed -n "$1p"; }

edit() { "$SDSTEER_TESTS/edit_tensors.py" "$@"; }

refused() {     # arguments of sd-convert, --, words of the message; nothing is left
    local arguments=()
    while [ "$1" != -- ]; do arguments+=("$1"); shift; done
    shift
    run sd-convert -q -o no "${arguments[@]}"
    says 1 "$@" || return 1
    [ -z "$(compgen -G 'no*')" ] || return 1
}
