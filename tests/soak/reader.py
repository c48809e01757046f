"""A reader of the table: counts its rows every ten seconds, in a process of its own, as lines."""

import json
import sys
import time
from pathlib import Path

from deltalake import DeltaTable

PAUSE = 10.0


def main(table: str, out: Path) -> None:
    """Counts until it is ended."""
    with out.open("w", buffering=1) as file:
        while True:
            begin = time.time()
            try:
                found = {"rows": DeltaTable(table).to_pyarrow_dataset().count_rows()}
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            file.write(json.dumps({"at": begin, "seconds": time.time() - begin, **found}) + "\n")
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
