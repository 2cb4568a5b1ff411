#!/usr/bin/env bash
# Runs a command while it alone holds a lock: scripts/with-lock.sh NAME COMMAND [ARGUMENT ...]
#
# The lock is a file descriptor that the command inherits. It is therefore held for as long as anything that the command
# started still runs, also when `make` or this shell was killed, and it is free the moment the last of them ends. There
# is nothing to clean up.
set -euo pipefail

name=$1
shift
directory=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)/.locks

if ! command -v flock >/dev/null; then
    echo "error: the command flock is missing: install the package util-linux." >&2
    exit 1
fi
mkdir -p "$directory"
exec 9>"$directory/$name"
if ! flock --nonblock 9; then
    echo "Another make is busy with '$name' here; waiting until it has finished." >&2
    flock 9
fi
exec "$@"
