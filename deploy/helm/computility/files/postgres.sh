#!/bin/sh
# One PostgreSQL server for evaluation: makes its data folder at the first start, then runs in the foreground.
# The folder is made beside its place and moved, so that a start that is killed leaves nothing half made.
set -eu
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA.new"
  initdb --pgdata="$PGDATA.new" --username=computility --pwfile="$PASSWORD_FILE" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C
  echo 'host all all all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
  echo 'CREATE DATABASE computility;' | postgres --single -D "$PGDATA.new" postgres > /dev/null
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses="$POD_IP" -c port=5432 -c unix_socket_directories=/tmp
