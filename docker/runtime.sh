#!/bin/sh
# Prints the part of requirements.lock that the program needs with the extras that are named.
set -eu
UV=${UV:-.venv/bin/uv}
for extra; do
    set -- "$@" --extra "$extra"
    shift
done
names=$("$UV" pip compile --quiet --no-header --no-annotate "$@" \
    --constraints requirements.lock pyproject.toml | sed 's/[=; ].*//')
printf '%s\n' "$names" | awk '
    NR == FNR { wanted[$1]; next }
    /^[a-zA-Z0-9]/ { split($0, part, /[=; ]/); keep = part[1] in wanted }
    keep' - requirements.lock
