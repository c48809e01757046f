#!/bin/sh
# Prints the part of requirements.lock that the program needs, without what only development needs.
set -eu
UV=${UV:-.venv/bin/uv}
names=$("$UV" pip compile --quiet --no-header --no-annotate \
    --constraints requirements.lock pyproject.toml | sed 's/[=; ].*//')
printf '%s\n' "$names" | awk '
    NR == FNR { wanted[$1]; next }
    /^[a-zA-Z0-9]/ { split($0, part, /[=; ]/); keep = part[1] in wanted }
    keep' - requirements.lock
