#!/usr/bin/env bash
# Everything that has to hold, step by step; ends at the first step that fails. Prints the time of each step at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    trap report EXIT
    step setup scripts/setup.sh test
    step format cargo fmt --all --check
    step clippy cargo clippy --locked --workspace --all-targets -- -D warnings
    # Rules compute for a minute while tests of the program mostly wait for servers.
    local said rules
    said=$(mktemp)
    check_alerts >"$said" 2>&1 &
    rules=$!
    # So more tests than processors run at a time.
    step tests env RUST_TEST_THREADS=6 cargo test --locked --workspace
    step dependencies target/tools/bin/cargo-deny --log-level error check --hide-inclusion-graph bans licenses sources
    step rules finish "$rules" "$said"
    current=
}

# Waits for something that began earlier, and shows what it said.
finish() {
    local status=0
    wait "$1" || status=$?
    cat "$2" && rm "$2"
    return "$status"
}

# Every file of alerts/ is one of three things, and each has a checker. Tests of rules take long, so all processors work on them.
check_alerts() {
    local file rules=0 tests=()
    while read -r file; do
        if has_key "$file" tests; then
            tests+=("$file")
        elif has_key "$file" groups; then
            promtool check rules "$file"
            rules=$((rules + 1))
        elif has_key "$file" route; then
            amtool check-config "$file"
        else
            echo "$file: no tests:, groups: or route: at its top, so nothing can check it" >&2
            return 1
        fi
    done < <(find alerts -name '*.yml' | sort)
    printf '%s\0' "${tests[@]}" | xargs -0 -n 1 -P "$(nproc)" promtool test rules
    [ "$rules" -gt 0 ] || { echo 'alerts/ holds no file with rules' >&2 && return 1; }
}
has_key() { grep -q "^$2:" "$1"; }

names=() times=() current=
step() {
    current=$1
    local start=$EPOCHREALTIME
    printf '\n== %s ==\n' "$1"
    "${@:2}"
    names+=("$1") times+=("$(elapsed "$start")")
}
# Seconds since, with one digit; the separator of EPOCHREALTIME follows the locale.
elapsed() {
    local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
    printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}
report() {
    local i
    printf '\n%-14s %8s\n' step seconds
    for i in "${!names[@]}"; do printf '%-14s %8s\n' "${names[i]}" "${times[i]}"; done
    [ -z "$current" ] || printf '%-14s %8s\n' "$current" FAILED
}

main "$@"
