#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# pipelines/install-deps, with stand-ins for dpkg-query, apt-get, sudo and id: what it installs,
# and when it only speaks; and what make asks of it.

bats_require_minimum_version 1.5.0

setup() {
    script=$BATS_TEST_DIRNAME/../../pipelines/install-deps
    cd "$BATS_TEST_TMPDIR"
    mkdir stand-in
    PATH=$BATS_TEST_TMPDIR/stand-in:$PATH
    stand_in dpkg-query 'shift 3; for p; do grep -qx "$p" absent || echo "$p=installed"; done; [ ! -s absent ]'
    stand_in apt-get 'echo "apt-get $*" >> log'
    stand_in sudo '[ -e sudo-works ] || exit 1; shift; "$@"'
    stand_in id 'cat uid'
    : > absent
    : > log
    echo 0 > uid
}

stand_in() { printf '#!/bin/sh\ncd "%s"\n%s\n' "$BATS_TEST_TMPDIR" "$2" > "stand-in/$1"; chmod +x "stand-in/$1"; }

@test "all there: silent, and nothing is installed" {
    run "$script" --tests
    [ "$status" = 0 ]
    [ -z "$output" ]
    [ ! -s log ]
}

@test "root installs what is missing, and only that" {
    printf 'libzstd-dev\nlibpng-dev\n' > absent
    run -0 "$script"
    [ "$output" = "Installing libzstd-dev libpng-dev" ]
    [ "$(cat log)" = "apt-get update
apt-get install -y --no-install-recommends libzstd-dev libpng-dev" ]
}

@test "packages of the demo and of the tests are asked for where they are wanted" {
    printf 'bats\ng++\njq\n' > absent
    run -0 "$script"
    [ -z "$output" ]
    run -0 "$script" --demo
    [ "$output" = "Installing jq" ]
    run -0 "$script" --tests
    [ "$output" = "Installing jq bats g++" ]
}

@test "a half-installed package counts as missing" {
    stand_in dpkg-query 'shift 3; for p; do case $p in jq) echo jq=unpacked ;; *) echo "$p=installed" ;; esac; done'
    run -0 "$script" --tests
    [ "$output" = "Installing jq" ]
}

@test "no root and no sudo: the line to run, exit 1" {
    echo 1000 > uid
    echo gcc > absent
    run -1 "$script"
    [ "$output" = "Packages are missing. Install them with:
    sudo apt-get install gcc" ]
    [ ! -s log ]
}

@test "sudo without a password installs" {
    echo 1000 > uid
    echo gcc > absent
    touch sudo-works
    run -0 "$script"
    grep -q 'apt-get install -y --no-install-recommends gcc' log
}

@test "what apt-get says is shown when it fails" {
    echo gcc > absent
    stand_in apt-get 'echo "E: no network"; exit 100'
    run -1 "$script"
    [[ $output == *"E: no network"* ]]
}

@test "make asks for the packages of its goals before it asks the compiler" {
    echo 1000 > uid
    stand_in gcc 'echo "$*" >> asked'
    top=$BATS_TEST_DIRNAME/../..
    for goals in "man gcc" "demo jq" "test bats"; do
        set -- $goals
        echo "$2" > absent
        run -2 make -C "$top" -q "$1"
        [[ $output == *"sudo apt-get install $2"*"packages are missing"* ]]
    done
    [ ! -e asked ]
    rm stand-in/gcc
    # Of these jq is none of its needs; and who only looks, or clears away, needs none.
    echo jq > absent
    run -1 make -C "$top" -q man
    echo gcc > absent
    run -0 make -C "$top" -n man
    run -0 make -C "$top" -n clean
}
