#!/usr/bin/env bash
# Save a Computility's state to a folder, and put it back.
#
#   deploy/backup.sh save FOLDER       while it runs; FOLDER is made, and must not be there
#   deploy/backup.sh restore FOLDER    while control has no process; what is there now is replaced
#
# Settings:
#   COMPUTILITY_STORE__URL   the PostgreSQL database, as control has it
#   COMPUTILITY_HOME         the home that control and nodes share
# Needs pg_dump and pg_restore, not older than the server. What is saved: the database (resources, ledger, digests of keys),
# then files, adapters, models and job folders of the home. In this order, because the other way round a file that comes in
# between would be in the database and not in the copy. What is not: logs, caches, and what gateways have spooled and not yet
# told (a few seconds' worth, which they tell the restored control: each event is posted once).
set -euo pipefail

readonly kept=(adapters files jobs models)

die() {
    printf 'backup: %s\n' "$@" >&2
    exit 1
}

database() {
    local url=${COMPUTILITY_STORE__URL:?set it to the URL of the database}
    [[ $url == postgresql* ]] || die "COMPUTILITY_STORE__URL is no URL of PostgreSQL; of SQLite, copy state.db while nothing runs"
    printf '%s\n' "${url/postgresql+asyncpg:/postgresql:}"
}

save() {
    local folder=$1 home=${COMPUTILITY_HOME:?set it to the home} name found=()
    [[ ! -e $folder ]] || die "$folder is there already"
    umask 077
    mkdir -p "$folder.part"
    pg_dump --dbname="$(database)" --format=custom --file="$folder.part/database.dump"
    for name in "${kept[@]}"; do
        if [[ -d $home/$name ]]; then found+=("$name"); fi
    done
    # A file that goes while it is read is one that control has just removed.
    tar --create --gzip --file="$folder.part/home.tar.gz" --directory="$home" --warning=no-file-changed \
        --warning=no-file-removed --ignore-failed-read "${found[@]:---files-from=/dev/null}" || [[ $? -eq 1 ]]
    (cd "$folder.part" && sha256sum database.dump home.tar.gz >checksums)
    sync "$folder.part"/*
    mv "$folder.part" "$folder"
    printf 'backup: saved to %s\n' "$folder"
}

restore() {
    local folder=$1 home=${COMPUTILITY_HOME:?set it to the home} name
    [[ -f $folder/checksums ]] || die "$folder is no backup: it has no checksums"
    (cd "$folder" && sha256sum --check --quiet checksums) || die "$folder is damaged; nothing was changed"
    umask 077
    mkdir -p "$home"
    pg_restore --dbname="$(database)" --clean --if-exists --no-owner --single-transaction "$folder/database.dump"
    for name in "${kept[@]}"; do rm -rf "${home:?}/$name"; done
    tar --extract --gzip --file="$folder/home.tar.gz" --directory="$home" --no-same-owner
    printf 'backup: restored from %s\n' "$folder"
}

[[ $# -eq 2 ]] || die "usage: backup.sh save|restore FOLDER"
case $1 in
    save) save "${2%/}" ;;
    restore) restore "${2%/}" ;;
    *) die "usage: backup.sh save|restore FOLDER" ;;
esac
