#!/usr/bin/env bash
# Two merges of the same small files, begun at one version, both succeed in deltalake, and each row is there twice.
#
# deltalake 1.6.6. The second merge removes files that the first has removed already. By Delta's rules for concurrent
# writers it has to fail; since files that were removed without a change of data count as no conflict, it is committed.
# `CommitProperties(max_commit_retries=0)` changes nothing. Whoever merges from two jobs needs a lock of their own.
#
# Output seen:
#   before: 3 rows in 3 files
#   merges: 3 files, 3 files
#   after: 6 rows in 2 files
#   the second without retries: succeeds, 6 rows in 2 files
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deltalake==1.6.6 pyarrow==25.0.1
cat >"$folder/look.py" <<'END'
import sys

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError


def made(name):
    path = f"{sys.argv[1]}/{name}"
    for number in range(3):
        write_deltalake(path, pa.table({"id": [number]}), mode="append")
    return path


def held(path):
    files = pa.table(DeltaTable(path).get_add_actions(flatten=True))["num_records"].to_pylist()
    return f"{sum(files)} rows in {len(files)} files"


path = made("retried")
print("before:", held(path))
jobs = DeltaTable(path), DeltaTable(path)
print("merges:", ", ".join(f"{job.optimize.compact()['numFilesRemoved']} files" for job in jobs))
print("after:", held(path))

path = made("once")
first, second = DeltaTable(path), DeltaTable(path)
first.optimize.compact()
try:
    second.optimize.compact(commit_properties=CommitProperties(max_commit_retries=0))
    said = "succeeds"
except CommitFailedError as error:
    said = type(error).__name__
print(f"the second without retries: {said}, {held(path)}")
END
"$folder/venv/bin/python" "$folder/look.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'END'
before: 3 rows in 3 files
merges: 3 files, 3 files
after: 6 rows in 2 files
the second without retries: succeeds, 6 rows in 2 files
END
