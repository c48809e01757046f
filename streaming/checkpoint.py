"""A streaming query's checkpoint: what it holds, and whether it goes with the predictions table.

This is the one module that reads Spark's own files: `metadata`, `offsets` and `commits`.
"""

import json
from pathlib import Path
from typing import Any

from sightstream.errors import CheckpointMismatchError, InputError, first_line


def app_id(checkpoint: Path) -> str:
    """Return the id of a checkpoint, under which the table keeps its last micro-batch.

    Raises:
        CheckpointMismatchError: its metadata file is missing, empty or damaged.
    """
    path = checkpoint / "metadata"
    try:
        content = path.read_bytes()
        return str(json.loads(content)["id"])
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError):
        fault = "is damaged" if content else "is empty, as after a power failure"
    raise CheckpointMismatchError(f"{path} {fault}; {_start_afresh(checkpoint)}")


def require_match(checkpoint: Path, predictions: str) -> None:
    """Compare the checkpoint with the table; safe beside a running stream, and changes nothing.

    Raises:
        CheckpointMismatchError: the stream cannot go on; with what is wrong and what to do.
    """
    commits, offsets = checkpoint / "commits", checkpoint / "offsets"
    if not (checkpoint / "metadata").exists() and _newest(offsets) == _newest(commits) == -1:
        return  # it has never started
    name = app_id(checkpoint)
    before = _newest(commits)
    held = _last_batch(predictions, name)
    after = _newest(commits)
    if _empty(commits, after):
        # Spark runs the micro-batch again from the same offsets, and the table skips it.
        raise CheckpointMismatchError(_emptied(commits / str(after)))
    planned = _newest(offsets)
    if _empty(offsets, planned):
        # Planned anew, the micro-batch may get other images, which the table would skip if it holds
        # that number.
        cure = _start_afresh(checkpoint) if max(held, after) >= planned else ""
        raise CheckpointMismatchError(_emptied(offsets / str(planned), cure))
    # A running stream may commit between two looks. A crash may leave the table one ahead.
    ahead = held == after + 1 and (offsets / str(held)).exists()
    if not (before <= held <= after or ahead):
        raise CheckpointMismatchError(
            f"the checkpoint {checkpoint} ends with micro-batch {_shown(after)}, the table "
            f"{predictions} with {_shown(held)}, so that one of them was replaced or restored; "
            f"{_start_afresh(checkpoint)}"
        )


def offset(checkpoint: Path, batch: int | None = None) -> dict[str, Any]:
    """Return the offset at the end of a micro-batch, or of the last one; empty before the first."""
    if batch is None:
        batch = _newest(checkpoint / "commits")
    if batch < 0:
        return {}
    # The lines are: the version of the log, metadata, and the offset of the one source, before
    # which version 2 of the log has the name of the source and a colon.
    line = (checkpoint / "offsets" / str(batch)).read_text().splitlines()[-1]
    return dict(json.loads(line[line.index("{") :]))


def _last_batch(predictions: str, name: str) -> int:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    from sightstream.tables.predictions import Predictions

    try:
        if not DeltaTable.is_deltatable(predictions):
            return -1
        last = Predictions(predictions).last_batch(name)
    except InputError as error:
        raise CheckpointMismatchError(str(error)) from error
    except (DeltaError, OSError) as error:
        raise CheckpointMismatchError(
            f"the predictions table {predictions} cannot be read: {first_line(error)}"
        ) from error
    return -1 if last is None else last


def _newest(folder: Path) -> int:
    """Return the number of the last micro-batch that has a file; -1 where none has."""
    if not folder.is_dir():
        return -1
    return max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=-1)


def _empty(folder: Path, batch: int) -> bool:
    try:
        return not (folder / str(batch)).stat().st_size
    except FileNotFoundError:
        return False


def _emptied(path: Path, cure: str = "") -> str:
    return f"{path} is empty, as after a power failure; {cure or f'remove it: rm -f {path}'}"


def _start_afresh(checkpoint: Path) -> str:
    return (
        f"put the checkpoint aside: mv {checkpoint} {checkpoint}.old (the stream then reads all "
        "that is left again, and leaves out the images that the table has)"
    )


def _shown(batch: int) -> str:
    return "none" if batch < 0 else str(batch)
