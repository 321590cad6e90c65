#!/usr/bin/env bash
# Makes a Debian package of a binary; prints its path.
#   scripts/package.sh [BINARY [FOLDER]]        (default: target/release/datapulse target/package)
# Nothing is installed and nothing runs as root. With SOURCE_DATE_EPOCH equal input gives equal bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

BINARY=${1:-target/release/datapulse}
FOLDER=${2:-target/package}
MAINTAINER=${MAINTAINER:-datapulse maintainers <maintainers@datapulse.invalid>}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

main() {
    local tool
    for tool in dpkg-deb objdump strip; do
        command -v "$tool" >/dev/null || die "$tool is missing: apt-get install dpkg binutils"
    done
    [ -x "$BINARY" ] || die "there is no program $BINARY: cargo build --release --locked"
    version=$("$BINARY" --version | sed 's/^datapulse //')
    architecture=$(dpkg --print-architecture)
    root=$FOLDER/root
    rm -rf "$root"
    mkdir -p "$root"
    program
    configuration
    completions
    documents
    control
    local package=$FOLDER/datapulse_${version}_$architecture.deb
    dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
    rm -rf "$root"
    echo "$package"
}

program() {
    put 755 "$BINARY" usr/bin/datapulse
    # Panics still say where they were; names of functions in backtraces need target/release/datapulse.
    strip --strip-unneeded "$root/usr/bin/datapulse"
    put 644 packaging/datapulse.service lib/systemd/system/datapulse.service
}

configuration() {
    put 644 packaging/datapulse.yml etc/datapulse/datapulse.yml
    # Secrets: systemd reads it as root, before it becomes the user.
    put 640 packaging/environment etc/datapulse/environment
    local file
    for file in alerts/*.yml; do put 644 "$file" "usr/share/datapulse/$file"; done
    for file in alerts/datadog/*.json dashboards/*.json; do put 644 "$file" "usr/share/datapulse/$file"; done
}

completions() {
    local shells=usr/share/bash-completion/completions/datapulse:bash
    shells+=" usr/share/zsh/vendor-completions/_datapulse:zsh usr/share/fish/vendor_completions.d/datapulse.fish:fish"
    local pair
    for pair in $shells; do
        "$BINARY" completions "${pair#*:}" | put 644 /dev/stdin "${pair%:*}"
    done
}

documents() {
    local docs=usr/share/doc/datapulse file
    {
        echo 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/'
        echo 'Upstream-Name: datapulse'
        echo
        printf 'Files: *\nCopyright: 2026 the authors of datapulse\nLicense: Apache-2.0\n'
        echo ' On Debian systems the whole text is in /usr/share/common-licenses/Apache-2.0.'
    } | put 644 /dev/stdin "$docs/copyright"
    {
        printf 'datapulse (%s) unstable; urgency=medium\n\n' "$version"
        printf '  * This version; what changed is in CHANGELOG.md.gz beside this file.\n\n'
        printf ' -- %s  %s\n' "$MAINTAINER" "$(LC_ALL=C date -R -u -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9n | put 644 /dev/stdin "$docs/changelog.gz"
    gzip -9nc CHANGELOG.md | put 644 /dev/stdin "$docs/CHANGELOG.md.gz"
    gzip -9nc packaging/datapulse.1 | put 644 /dev/stdin usr/share/man/man1/datapulse.1.gz
    put 644 README.md "$docs/README.md"
    # With its folders, so that the links of the README hold.
    while read -r file; do put 644 "$file" "$docs/$file"; done < <(find docs -type f | sort)
}

control() {
    # Before there is a folder for what describes the package.
    local script size needed
    size=$(du -k -s --apparent-size "$root" | cut -f1)
    needed=$(needs)
    {
        printf 'Package: datapulse\nVersion: %s\nArchitecture: %s\n' "$version" "$architecture"
        printf 'Maintainer: %s\n' "$MAINTAINER"
        printf 'Installed-Size: %s\n' "$size"
        printf 'Depends: %s\n' "$needed"
        printf 'Recommends: ca-certificates\nSection: net\nPriority: optional\n'
        cat <<'TEXT'
Description: exporter of PostgreSQL, Redshift, Athena, Redis and log metrics
 Checks ask PostgreSQL, Aurora, Redshift, Athena, CloudWatch Logs Insights,
 Redis, Valkey, ElastiCache and MemoryDB, again and again; the answers go to
 Prometheus, and over OTLP and DogStatsD. Logs that are delivered over HTTP are
 counted and kept. Alert rules and dashboards are in /usr/share/datapulse.
TEXT
    } | put 644 /dev/stdin DEBIAN/control
    printf '/etc/datapulse/datapulse.yml\n/etc/datapulse/environment\n' | put 644 /dev/stdin DEBIAN/conffiles
    for script in postinst prerm postrm; do put 755 "packaging/debian/$script" "DEBIAN/$script"; done
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -print0 | sort -z | xargs -0 md5sum | sed 's|  \./|  |') \
        >"$FOLDER/md5sums"
    put 644 "$FOLDER/md5sums" DEBIAN/md5sums
    rm "$FOLDER/md5sums"
}

# The packages of the libraries that the program names. That of the C library has to be new enough for its newest symbol.
needs() {
    local symbols library glibc packages='adduser, init-system-helpers (>= 1.54)'
    symbols=$(objdump -p "$root/usr/bin/datapulse")
    glibc=$(grep -oE 'GLIBC_[0-9]+(\.[0-9]+)+' <<<"$symbols" | sed 's/GLIBC_//' | sort -V | tail -n 1)
    while read -r library; do
        case $library in
        libc.so.* | libm.so.* | ld-linux*) ;;
        libgcc_s.so.1) packages+=', libgcc-s1' ;;
        *) die "no package is known for $library" ;;
        esac
    done < <(sed -n 's/^ *NEEDED *//p' <<<"$symbols")
    [ -z "$glibc" ] || packages+=", libc6 (>= $glibc)"
    echo "$packages"
}

put() { install -D -m "$1" "$2" "$root/$3"; }
die() {
    echo "package: $*" >&2
    exit 1
}

main
