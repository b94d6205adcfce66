#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input gets one clear line on standard error, exit code 1, and no output file.
set -u
compare=${1:?usage: compare_bad_input.sh PATH-OF-cairn-compare}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

refuses() {
    what=$1 expected=$2
    shift 2
    "$compare" movement --quick --json "$scratch/out.json" "$@" >"$scratch/stdout" 2>"$scratch/stderr"
    code=$?
    if [ $code -eq 0 ] || [ $code -gt 127 ] || ! grep -q -- "$expected" "$scratch/stderr" || [ -e "$scratch/out.json" ]; then
        echo "FAILED: $what: exit code $code, expected \"$expected\" in:"
        head -c 500 "$scratch/stderr"
        failed=1
    else
        echo "refused: $what: $(head -c 200 "$scratch/stderr" | head -n 1)"
    fi
}

: >"$scratch/empty"
printf '\n\n\r\n' >"$scratch/blank"
printf 'a\nb\0c\n' >"$scratch/nul"
head -c 10000000 /dev/zero | tr '\0' 'x' >"$scratch/long"
printf 'node-a\nnode-b\nnode-a\n' >"$scratch/twice"

refuses "a file that is not there" "cannot be read" --keys "$scratch/missing"
refuses "a directory" "is a directory" --keys "$scratch"
refuses "an empty file" "no key" --keys "$scratch/empty"
refuses "a file of blank lines" "no key" --keys "$scratch/blank"
refuses "a NUL byte" "line 2: a NUL byte" --keys "$scratch/nul"
refuses "a line of 10 MB" "line 1: 10000000 bytes" --keys "$scratch/long"
refuses "a node that stands twice" "stands there twice" --nodes "$scratch/twice"
refuses "an unknown question" "weather" weather
refuses "too few rounds" "rounds" --rounds 1
exit $failed
