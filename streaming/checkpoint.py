"""A streaming query's checkpoint: what it holds, and whether it goes with the predictions table.

This is the one module that reads Spark's own files: `metadata`, `offsets` and `commits`.
"""

import json
from pathlib import Path
from typing import Any, TypeGuard

from sightstream.errors import CheckpointMismatchError, InputError, first_line
from sightstream.io import disk
from sightstream.tables.predictions import Predictions

OWNER = "owner"
"""File of ours in a checkpoint: its id, and the number of the file that Spark's id is in."""

_OFFSET, _COMMIT, _FIRST = 3, 2, 2
"""Lines of Spark's files: the version of the log, metadata of an offset, and what is told."""


def app_id(checkpoint: Path) -> str:
    """Return the id of a checkpoint, under which the table keeps its last micro-batch.

    It is the one of Spark's query, unless the checkpoint is a copy.

    Raises:
        CheckpointMismatchError: its metadata file is missing, empty or damaged.
    """
    owner, said = checkpoint / OWNER, _said(checkpoint / "metadata")  # which Spark reads each time
    name: str = (_said(owner) if owner.exists() else said)["id"]
    return name


def _said(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        said = dict(json.loads(content))
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except (ValueError, TypeError, RecursionError):
        fault = "is damaged" if content else "is empty, as after a power failure"
    else:
        if isinstance(said.get("id"), str):
            return said
        fault = "is damaged"
    raise CheckpointMismatchError(f"{path} {fault}; {_start_afresh(path.parent)}")


def own(checkpoint: Path, table: Predictions) -> str:
    """Return the id of a checkpoint as `app_id` does, and a new one where it is a copy.

    Two homes that write to one table under one id would skip the micro-batches of each other.
    """
    name, inode = app_id(checkpoint), (checkpoint / "metadata").stat().st_ino
    copied = is_copy(checkpoint)
    home = checkpoint.absolute().parent.parent
    if copied and not Path(table.path).is_relative_to(home):  # else the table was copied, too
        name = table.share(name, committed(checkpoint))
    if copied or not (checkpoint / OWNER).exists():
        disk.replace(checkpoint / OWNER, json.dumps({"id": name, "inode": inode}).encode())
    return name


def begin_anew(checkpoint: Path) -> None:
    """Let Spark choose a new id for a checkpoint that has planned nothing, and has no owner yet.

    Else a copy of it would have the same id, and neither would know.
    """
    if _newest(checkpoint / "offsets") == -1 and not (checkpoint / OWNER).exists():
        for name in ("metadata", ".metadata.crc"):
            (checkpoint / name).unlink(missing_ok=True)


def is_copy(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was copied: a move on a file system keeps a file's number."""
    owner = checkpoint / OWNER
    inode = (checkpoint / "metadata").stat().st_ino
    return owner.exists() and bool(_said(owner).get("inode") != inode)


def require_match(checkpoint: Path, predictions: str) -> None:
    """Compare the checkpoint with the table; safe beside a running stream, and changes nothing.

    Raises:
        CheckpointMismatchError: the stream cannot go on; with what is wrong and what to do.
    """
    commits, offsets = checkpoint / "commits", checkpoint / "offsets"
    if not (checkpoint / "metadata").exists() and _newest(offsets) == _newest(commits) == -1:
        return  # it has never started
    name = app_id(checkpoint)
    before = committed(checkpoint)
    held = _last_batch(predictions, name)
    after = committed(checkpoint)
    planned, afresh = _newest(offsets), _start_afresh(checkpoint)
    for path, lines, cure in (
        # Spark runs the micro-batch again from the same offsets, and the table skips it.
        (commits / str(after), _COMMIT, ""),
        # Planned anew, a micro-batch may get other images, which the table would skip if it holds
        # that number.
        (offsets / str(planned), _OFFSET, afresh if max(held, after) >= planned else ""),
        (offsets / str(after), _OFFSET, afresh),
        *((noted, _FIRST, afresh) for noted in _noted(checkpoint) if after < 0),
    ):
        if path.exists():
            _told(path, lines, cure)
    if held > after and is_copy(checkpoint):
        return  # the other home went on
    # A running stream may commit between two looks. A crash may leave the table one ahead.
    ahead = held == after + 1 and (offsets / str(held)).exists()
    if not (before <= held <= after or ahead):
        raise CheckpointMismatchError(
            f"the checkpoint {checkpoint} ends with micro-batch {_shown(after)}, the table "
            f"{predictions} with {_shown(held)}, so that one of them was replaced or restored; "
            f"{_start_afresh(checkpoint)}"
        )


def committed(checkpoint: Path) -> int:
    """Return the number of the last micro-batch that Spark noted as done; -1 before the first."""
    return _newest(checkpoint / "commits")


def offset(
    checkpoint: Path, batch: int | None = None, of: type[str | dict[str, int]] | None = None
) -> dict[str, Any]:
    """Return the offset at the end of a micro-batch, or of the last one; empty before the first.

    `of` is the type of what it holds: a manifest's name, or numbers of messages by partition.

    Raises:
        CheckpointMismatchError: its file is empty or damaged.
    """
    if batch is None:
        batch = committed(checkpoint)
    if batch < 0:
        return {}
    return _position(checkpoint, checkpoint / "offsets" / str(batch), _OFFSET, of)


def first_offset(checkpoint: Path) -> dict[str, Any]:
    """Return the offset at which Kafka's first micro-batch begins; raises as `offset` does."""
    (noted,) = _noted(checkpoint)
    return _position(checkpoint, noted, _FIRST, dict)


def planned(checkpoint: Path, batch: int) -> float:
    """Return when a micro-batch was planned, in seconds of the epoch; raises as `offset` does."""
    path = checkpoint / "offsets" / str(batch)
    when = _told(path, _OFFSET, _start_afresh(checkpoint))[0].get("batchTimestampMs")
    if not _is_number(when):
        raise _damaged(path, _start_afresh(checkpoint))
    return float(when / 1000)


def _noted(checkpoint: Path) -> list[Path]:
    return [*(checkpoint / "sources").glob("*/0")]


def _position(checkpoint: Path, path: Path, lines: int, of: type[Any] | None) -> dict[str, Any]:
    cure = _start_afresh(checkpoint)
    found = _told(path, lines, cure)[-1]
    for each in found.values() if of else ():
        parts = each.items() if isinstance(each, dict) else ()
        whole = all(part.isdecimal() and _is_number(end) for part, end in parts)
        if not whole or not isinstance(each, of or object):
            raise _damaged(path, cure)
    return found


def _is_number(said: Any) -> TypeGuard[int]:
    return type(said) is int and -(2**63) <= said < 2**63


def _damaged(path: Path, cure: str, fault: str = "is damaged") -> CheckpointMismatchError:
    return CheckpointMismatchError(f"{path} {fault}; {cure}")


def _told(path: Path, lines: int, cure: str) -> list[dict[str, Any]]:
    """Return the objects in the lines of a file of Spark's, of which the first has none.

    That is the version of the log, which Kafka's first offset begins with a zero byte. Version 2
    has the name of the source and a colon before an offset.
    """
    cure = cure or f"remove it: rm {'-rf' if path.is_dir() else '-f'} {path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, cure, f"cannot be read ({error.strerror})") from None
    try:
        _, *found = content.decode().splitlines()
        if len(found) == lines - 1:
            return [dict(json.loads(line[line.index("{") :])) for line in found]
    except (ValueError, TypeError, RecursionError):  # it is cut short, or holds something else
        pass
    raise _damaged(path, cure, "is damaged" if content else "is empty, as after a power failure")


def _last_batch(predictions: str, name: str) -> int:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

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


def _start_afresh(checkpoint: Path) -> str:
    return (
        f"put the checkpoint aside: mv {checkpoint} {checkpoint}.old (the stream then reads all "
        "that is left again, and leaves out the images that the table has)"
    )


def _shown(batch: int) -> str:
    return "none" if batch < 0 else str(batch)
