#!/usr/bin/env bash
# Starts the demo, breaks a few things, and looks at every page of it in a browser. Pictures go to docs/images/pages.
set -euo pipefail
cd "$(dirname "$0")/../.."

PROGRAM=$(realpath "${1:-target/debug/datapulse}")
TOOLS=target/pictures
OUT=docs/images/pages

main() {
    mkdir -p "$TOOLS" "$OUT"
    cp scripts/pictures/package.json scripts/pictures/package-lock.json scripts/pictures/pages.mjs "$TOOLS/"
    npm ci --silent --prefix "$TOOLS"
    "$PROGRAM" demo >"$TOOLS/demo.log" 2>&1 &
    demo=$!
    trap 'kill -INT $demo 2>/dev/null; wait $demo || true' EXIT
    wait_for "demo" grep -q "^  datapulse  *http" "$TOOLS/demo.log"
    wait_for "shop" grep -q 'a shop on MariaDB' "$TOOLS/demo.log"
    # Courses need a while, and an incident its evidence.
    sleep 90
    "$PROGRAM" demo break long-query
    "$PROGRAM" demo break publisher-down
    sleep 60
    local base demo_page slack
    base=$(address datapulse) demo_page=$(address 'demo page') slack=$(address Slack)
    node "$TOOLS/pages.mjs" "$OUT" "overview=$base" "subscription=${base}checks/orders@orders-sub" \
        "replication=${base}checks/orders-slots@orders-pub" "redshift=${base}checks/analytics@warehouse" \
        "sessions=${base}checks/sessions@orders-sub" "devices=${base}checks/devices@lake" "cache=${base}checks/cache" \
        "logs=${base}logs" "demo=$demo_page" "slack=$slack"
    look_at_aws
    # What is shown in the documents has to be small.
    pngquant --force --ext .png --speed 1 64 -- "$OUT"/*.png
}

# The demo has no AWS: moto plays it for the checks that ask it.
look_at_aws() {
    local place=$TOOLS/aws moto=25611 port=25612
    rm -rf "$place" && mkdir -p "$place"
    export AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_REGION=eu-west-1 AWS_ENDPOINT_URL=http://127.0.0.1:$moto
    .venv/bin/moto_server -H 127.0.0.1 -p "$moto" >"$place/moto.log" 2>&1 &
    local server=$!
    wait_for moto curl -sf "$AWS_ENDPOINT_URL/moto-api/"
    .venv/bin/python scripts/pictures/aws.py "$moto" "$place"
    "$PROGRAM" serve --config.file "$place/datapulse.yml" --web.listen-address "127.0.0.1:$port" 2>"$place/datapulse.log" &
    local exporter=$!
    wait_for 'answer of Athena' sh -c "curl -sf http://127.0.0.1:$port/metrics | grep -q ^device_connections"
    sleep 40
    node "$TOOLS/pages.mjs" "$OUT" "athena=http://127.0.0.1:$port/checks/devices_lake" "memorydb=http://127.0.0.1:$port/checks/stores"
    kill "$exporter" "$server"
}

# As the demo prints it.
address() { sed -n "s|^  $1  *\(http://[^ ]*\).*|\1|p" "$TOOLS/demo.log"; }

wait_for() {
    local what=$1 try
    for try in $(seq 120); do
        "${@:2}" >/dev/null 2>&1 && return
        sleep 0.5
    done
    echo "no $what within a minute; the demo said:" >&2
    cat "$TOOLS/demo.log" >&2
    return 1
}

main
