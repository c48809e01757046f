#!/usr/bin/env bash
# Spark's pandas functions give a missing string as None with pandas 2, and as NaN with pandas 3.
#
# pyspark 4.3.0, pyarrow 25.0.1; pandas 2.3.3 and 3.1.1. `value is None`, the usual test in a
# mapInPandas function, is false for every missing string under pandas 3: nulls count as values,
# and only `pandas.isna` finds them. The column's dtype is `object` in one and `str` in the other.
# Reading the column as Arrow (`mapInArrow`) gives None under both.
#
# Output seen:
#   pandas 2.3.3: object [False, True, True]
#   pandas 3.1.1: str [False, False, True]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/look.py" <<'END'
import os
import sys

import pandas as pd
from pyspark.sql import SparkSession


def look(batches):
    for rows in batches:
        present, missing = rows["text"].sort_values(na_position="last")
        found = [present is None, missing is None, bool(pd.isna(missing))]
        yield pd.DataFrame({"found": [f"{rows['text'].dtype} {found}"]})


os.environ["PYSPARK_PYTHON"] = sys.executable
options = {"spark.ui.enabled": "false"}
spark = SparkSession.builder.master("local[1]").config(map=options).getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
rows = spark.createDataFrame([("a",), (None,)], "text string").coalesce(1)
(answer,) = rows.mapInPandas(look, "found string").collect()
print(f"pandas {pd.__version__}: {answer.found}")
END
for pandas in 2.3.3 3.1.1; do
    python3 -m venv "$folder/$pandas"
    "$folder/$pandas/bin/pip" install -q pyspark==4.3.0 pyarrow==25.0.1 "pandas==$pandas"
    "$folder/$pandas/bin/python" "$folder/look.py" 2>"$folder/err" || { tail -5 "$folder/err" >&2; exit 1; }
done | tee "$folder/seen"
diff "$folder/seen" - <<'END'
pandas 2.3.3: object [False, True, True]
pandas 3.1.1: str [False, False, True]
END
