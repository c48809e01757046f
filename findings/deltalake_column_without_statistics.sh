#!/usr/bin/env bash
# A filter finds no row in a file that lacks statistics of the column, in deltalake's reads by way of pyarrow.
#
# deltalake 1.6.6 with pyarrow 25.0.1. `delta.dataSkippingStatsColumns` says which columns have statistics. Where it is
# changed, files from before have none of the new ones, which Delta allows: readers have to read them. `to_pyarrow_dataset`
# gives pyarrow a guarantee of such a file, "name >= null and name <= null", by which it leaves the file out wherever a
# filter names the column; so do `to_pyarrow_table` and `to_pandas`. No error is raised. deltalake's own engine
# (`QueryBuilder`) finds the row.
#
# Output seen:
#   before: dataset 1, table 1, SQL 1
#   after: dataset 0, table 0, SQL 1
#   without a filter: 2
#   guarantee: ((((is_valid(id) and (id >= 1)) and (name >= null[string])) and (id <= 2)) and (name <= null[string]))
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deltalake==1.6.6 pyarrow==25.0.1
cat >"$folder/look.py" <<'END'
import sys

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable, QueryBuilder, write_deltalake

path, columns = f"{sys.argv[1]}/table", "delta.dataSkippingStatsColumns"
rows = pa.table({"id": [1, 2], "name": ["a", "b"]})
write_deltalake(path, rows, configuration={columns: "id"})


def found():
    table = DeltaTable(path)
    dataset = table.to_pyarrow_dataset().to_table(filter=ds.field("name") == "a")
    read = table.to_pyarrow_table(filters=[("name", "=", "a")])
    asked = QueryBuilder().register("t", table).execute("SELECT * FROM t WHERE name = 'a'")
    return f"dataset {len(dataset)}, table {len(read)}, SQL {len(pa.table(asked.read_all()))}"


print("before:", found())
DeltaTable(path).alter.set_table_properties({columns: "id,name"})
print("after:", found())
dataset = DeltaTable(path).to_pyarrow_dataset()
print("without a filter:", len(dataset.to_table()))
print("guarantee:", next(dataset.get_fragments()).partition_expression)
END
"$folder/venv/bin/python" "$folder/look.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" - <<'END'
before: dataset 1, table 1, SQL 1
after: dataset 0, table 0, SQL 1
without a filter: 2
guarantee: ((((is_valid(id) and (id >= 1)) and (name >= null[string])) and (id <= 2)) and (name <= null[string]))
END
