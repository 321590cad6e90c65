#!/bin/sh
# Makes the passwords of docker-compose.yml, once; those that are there stay.
#   compose/secrets.sh [FOLDER]        (default: compose/secrets)
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
for name in access-key datapulse grafana postgres replicator shop; do
    [ -s "$folder/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name"
    # The programs in the containers are other users. The folder lets none of this machine in.
    chmod 444 "$folder/$name"
done
