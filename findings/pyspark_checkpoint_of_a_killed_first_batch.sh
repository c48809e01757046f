#!/usr/bin/env bash
# A streaming query that was killed while its first micro-batch was planned never starts again in pyspark 4.1 and later.
#
# pyspark 4.3.0. Spark writes each file of a checkpoint under a name such as `.0.<uuid>.tmp`, and renames it; a kill
# between the two leaves that file. Before micro-batch 0 Spark now wants the folders `offsets` and `commits` to be
# empty, takes such a file for another query's, and refuses. Every later start fails alike, until somebody removes the
# checkpoint. pyspark 4.0.1 starts. `spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart=false` turns the look off.
#
# Output seen:
#   4.0.1: 10 rows
#   4.3.0: StreamingQueryException
#   4.3.0 again: StreamingQueryException
#   4.3.0 without the look: 10 rows
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/look.py" <<'END'
import sys
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

folder, (name, *more) = Path(sys.argv[1]), sys.argv[2:]
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
for each in more:
    spark = spark.config(each, "false")
spark = spark.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
given, checkpoint = folder / "in", folder / f"checkpoint {name}"
given.mkdir(exist_ok=True)
(given / "lines.txt").write_text("a line\n" * 10)
offsets = checkpoint / "offsets"
if not offsets.exists():
    offsets.mkdir(parents=True)
    (offsets / ".0.e176db05-f514-4996-a2c2-5923990af386.tmp").touch()  # what a kill has left
counts = []
lines = spark.readStream.text(str(given))
query = lines.writeStream.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True)
try:
    query.foreachBatch(lambda batch, _: counts.append(batch.count())).start().awaitTermination()
    said = f"{sum(counts)} rows"
except PySparkException as error:
    said = type(error).__name__
print(f"{name}: {said}")
END
look() {
    "$folder/$1/bin/python" "$folder/look.py" "$folder" "${@:2}" 2>/dev/null
}
python3 -m venv "$folder/4.0.1"
"$folder/4.0.1/bin/pip" install -q pyspark==4.0.1
python3 -m venv "$folder/4.3.0"
"$folder/4.3.0/bin/pip" install -q pyspark==4.3.0
{
    look 4.0.1 4.0.1
    look 4.3.0 4.3.0
    look 4.3.0 4.3.0 | sed 's/:/ again:/'
    look 4.3.0 "4.3.0 without the look" spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart
} | tee "$folder/seen"
diff "$folder/seen" - <<'END'
4.0.1: 10 rows
4.3.0: StreamingQueryException
4.3.0 again: StreamingQueryException
4.3.0 without the look: 10 rows
END
