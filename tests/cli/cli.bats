#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What every program in bin/ does alike: help, version, manual page, misuse. The programs are those of src/tools.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    tools=$(basename -s .c src/tools/*.c)
}

@test "--help exits 0, says usage, lists its options, and gives an example" {
    for tool in $tools; do
        echo "$tool"
        run --separate-stderr "bin/$tool" --help
        [ "$status" = 0 ]
        [ -z "$stderr" ]
        [[ $output == "usage: $tool"* ]]
        [[ $output == *"--help"* && $output == *"--version"* ]]
        [[ $output == *"Examples:"*"$tool"* ]]
    done
}

@test "--help fits 100 columns, but for examples, which are lines to paste" {
    for tool in $tools; do
        echo "$tool"
        [ -z "$("bin/$tool" --help | sed '/^Examples:/,$d' | grep -E '^.{101}')" ]
    done
}

@test "--help to a full disk fails" {
    for tool in $tools; do
        run -1 --separate-stderr bash -c "bin/$tool --help > /dev/full"
        [[ $stderr == "$tool: standard output: writing: "* ]]
    done
}

@test "--version names program and version" {
    for tool in $tools; do
        run --separate-stderr "bin/$tool" --version
        [ "$status" = 0 ]
        [[ $output =~ ^$tool\ \(sdsteer\)\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    done
}

@test "an unknown option exits 2, says so and points to --help; stdout stays empty" {
    for tool in $tools; do
        echo "$tool"
        run --separate-stderr "bin/$tool" --no-such-option
        [ "$status" = 2 ]
        [ -z "$output" ]
        [ "$stderr" = "$tool: unknown option --no-such-option
Try '$tool --help'." ]
    done
}

@test "a value that is none of the choices exits 2" {
    for tool in $tools; do
        echo "$tool"
        run --separate-stderr "bin/$tool" --progress maybe
        [ "$status" = 2 ]
        [[ $stderr == "$tool: --progress: 'maybe' is none of auto|on|off"* ]]
    done
}

@test "a misspelt option suggests the nearest" {
    for tool in $tools; do
        run --separate-stderr "bin/$tool" --progres off
        [ "$status" = 2 ]
        [[ $stderr == *"did you mean --progress?"* ]]
    done
}

@test "--man is a page that groff sets without a warning" {
    command -v groff > /dev/null || skip "groff is not installed"
    for tool in $tools; do
        echo "$tool"
        "bin/$tool" --man > "$BATS_TEST_TMPDIR/$tool.1"
        run groff -man -Tascii -ww -z "$BATS_TEST_TMPDIR/$tool.1"
        echo "$output"
        [ "$status" = 0 ]
        [ -z "$output" ]
        grep -q '^\.SH EXAMPLES' "$BATS_TEST_TMPDIR/$tool.1"
        grep -q '^\.SH DESCRIPTION' "$BATS_TEST_TMPDIR/$tool.1"
        grep -q '^Of an option that comes again the last counts' "$BATS_TEST_TMPDIR/$tool.1"
    done
    run groff -man -Tascii -ww -z man/sdsteer.7
    [ -z "$output" ]
}

@test "every option of --help is in the manual page" {
    for tool in $tools; do
        "bin/$tool" --man | sed 's/\\-/-/g' > "$BATS_TEST_TMPDIR/page"
        options=$("bin/$tool" --help | sed -n 's/^  \(-.,\|   \) \(--[a-z0-9-]*\).*/\2/p')
        [ -n "$options" ]
        for option in $options; do
            echo "$tool $option"
            grep -qF -- "$option" "$BATS_TEST_TMPDIR/page"
        done
    done
}

@test "options in examples are options that the program has" {
    for tool in $tools; do
        [ "$tool" != tstream ] || continue      # its subcommands have options of their own
        "bin/$tool" --help > "$BATS_TEST_TMPDIR/help"
        # Lines of one program only: in a pipeline an option may be a neighbour's.
        for option in $(sed -n "/^Examples:/,\$s/^  $tool \(.*\)/\1/p" "$BATS_TEST_TMPDIR/help" | grep -v '|' \
                        | grep -oE -- ' --[a-z][a-z0-9-]*' || true); do
            echo "$tool $option"
            grep -qE -- "^  (-.,|   ) (${option#-}|--(no-)?${option#--no-}|${option})( |\$)" "$BATS_TEST_TMPDIR/help"
        done
    done
}

@test "SIGTERM and SIGHUP end a program by that signal and remove what is half-written" {
    for signal in TERM HUP; do
        bin/sd-assemble-prompts -n 1G -o "$BATS_TEST_TMPDIR/out" &
        program=$!
        while ! ls "$BATS_TEST_TMPDIR"/out.part-* 2> /dev/null; do sleep 0.01; done
        kill -s "$signal" "$program"
        status=0
        wait "$program" || status=$?
        [ "$status" = $((128 + $(kill -l "$signal"))) ]
        [ -z "$(ls "$BATS_TEST_TMPDIR")" ]
    done
}

@test "the completion is bash that loads, and knows every program" {
    # shellcheck disable=SC2086
    pipelines/make-completion $(printf 'bin/%s ' $tools) > "$BATS_TEST_TMPDIR/completion"
    bash -n "$BATS_TEST_TMPDIR/completion"
    source "$BATS_TEST_TMPDIR/completion"
    for tool in $tools; do
        complete -p "$tool"
    done
    COMP_WORDS=(sd-assemble-prompts --split "gen") COMP_CWORD=2 COMPREPLY=()
    _sdsteer_sd_assemble_prompts
    [ "${COMPREPLY[*]}" = generate ]
}

@test "the shell scripts pass shellcheck" {
    command -v shellcheck > /dev/null || skip "shellcheck is not installed"
    scripts=$(grep -lE '^#! ?/(usr/)?bin/(env )?(ba)?sh' -- \
        pipelines/* tests/* tests/bench/* .ci/run 2> /dev/null || true)
    # shellcheck disable=SC2086
    run shellcheck --external-sources --source-path=SCRIPTDIR --severity=warning $scripts
    echo "$output"
    [ "$status" = 0 ]
}

@test "no test asks in a way that bash lets pass: one line of two with && between, or one behind !, or before ||" {
    run -1 grep -nE '^ *(! |(\[|cmp |grep |diff ).* && (\[|cmp |grep |diff |tstream ))' tests/cli/*.bats
    run -1 grep -nE '^ *(refused|fails|fails_with|says) .*\|\|( *[^r ]| *$)' tests/cli/*.bats
}
