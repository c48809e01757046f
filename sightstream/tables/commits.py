"""Commits to a table in a folder that take as long however many entries its log has.

delta-rs lists the whole log several times for each commit, 2.5 us an entry each time: with a day of
them, that takes a second. Here the next entry is made by a link, as delta-rs makes it, which
fails where another writer made it first.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote
from uuid import uuid4

import pyarrow as pa

from sightstream.errors import InputError, SightstreamError
from sightstream.io import disk
from sightstream.tables import delta

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction
    from pyarrow import fs


TRIES = 20
"""Times that a commit is tried whose table others alter meanwhile."""

REMOTE_TRIES = 1000
"""The same for a merge by delta-rs, which takes as long as a few appends of others."""

T = TypeVar("T")

Values = dict[str, str | None]
"""Of a partition's columns, as the log has them."""

FAMILY = "~"
"""Stands in an app id between that of a checkpoint and the part that a copy of it has alone."""


class AlteredError(SightstreamError):
    """Another writer altered columns, took the same files, or committed the same micro-batch."""


class Head(NamedTuple):
    """A version that was read, and its log entry, by which another log in its place is told."""

    version: int
    entry: bytes | None
    """None: a checkpoint has what it said."""


def head(path: str, version: int) -> Head:
    """Return a version that was read just now."""
    return Head(version, delta.entry(delta.store(path), version))


def is_there(path: str, head: Head) -> bool:
    """Tell whether the log still has an entry, which may have been removed below a checkpoint.

    Raises:
        InputError: The log is another one.
    """
    held = delta.entry(delta.store(path), head.version)
    if held == head.entry and held is not None:
        return True
    if held is None and last_checkpoint(path) >= head.version:
        return head.entry is None
    raise InputError(
        f"{path} is another table than before: version {head.version} of its log is "
        f"{'gone' if held is None else 'another one'}, as after it was dropped and made anew, or "
        "restored from a backup; nothing more is written. Start the stream again: it compares its "
        "checkpoint with the table, and says what to do"
    )


def tried(commit: Callable[[], T], look: Callable[[], None]) -> T:
    """Commit; where others altered the table meanwhile, look at it and commit again.

    Raises:
        InputError: The table has a feature that delta-rs cannot write.
    """
    from deltalake.exceptions import CommitFailedError, SchemaMismatchError

    for tries_left in range(TRIES - 1, -1, -1):
        try:
            return commit()
        except (CommitFailedError, SchemaMismatchError, AlteredError) as error:
            if "Unsupported table features" in str(error):
                raise InputError(
                    f"another writer turned on what the stream cannot write: {error}; turn it off "
                    "with ALTER TABLE ... DROP FEATURE, or name another table: predictions_uri"
                ) from None
            if not tries_left:
                raise
        look()
    raise AssertionError


def plain(table: DeltaTable) -> bool:
    """Tell whether rows may be added to a table as they are, by the oldest rules of Delta.

    They may not where others partitioned it anew.
    """
    demanding = any("delta.invariants" in (f.metadata or {}) for f in table.schema().fields)
    return "://" not in table.table_uri.removeprefix("file://") and (
        table.protocol().min_writer_version <= 2
        and not demanding
        and table.metadata().partition_columns == ["date"]
    )


def last_checkpoint(path: str) -> int:
    """Return the version of the last checkpoint, below which log entries may be removed.

    -1 where there is none, or it cannot be read, as after a loss of power.
    """
    try:
        with delta.store(path).open_input_stream("_delta_log/_last_checkpoint") as file:
            return int(json.loads(file.read())["version"])
    except (FileNotFoundError, KeyError, TypeError, ValueError, RecursionError):
        return -1


def newest(path: str) -> int:
    """Return the last version of a table in a folder, looked for from its last checkpoint on.

    -1 where that tells nothing. delta-rs lists the log and reads the checkpoint, which takes 66 ms
    of a core in a log of 9,000 entries.
    """
    if "://" in path:
        return -1
    version = last_checkpoint(path)
    if version >= 0 and not Path(path, delta.entry_name(version)).exists():
        return -1
    while Path(path, delta.entry_name(version + 1)).exists():
        version += 1
    return version


def append(path: str, head: Head, rows: pa.Table, app_id: str, batch_id: int) -> Head:
    """Commit the rows of a micro-batch as `_put` does; no copy of its checkpoint may meanwhile."""
    import pyarrow.compute as pc

    is_there(path, head)
    adds = []
    for day in rows["date"].unique():
        part = rows.filter(pc.equal(rows["date"], day)).drop_columns("date")
        Path(path, f"date={day}").mkdir(exist_ok=True)
        # Dictionaries take a third of the time, and most values occur once. Merged files have them.
        values: Values = {"date": str(day)}
        to = delta.store(path)
        adds.append(added(to, f"date={day}", values, part, change=True, use_dictionary=False))
    info = _info("WRITE", {"mode": "Append", "partitionBy": '["date"]'})
    transaction = {"txn": {"appId": app_id, "version": batch_id}}

    def altered(action: dict[str, Any]) -> bool:
        other = action.get("txn", {}).get("appId", "")
        return family(other) == family(app_id) or bool({"metaData", "protocol"} & action.keys())

    return _put(path, head, [info, *adds, transaction], altered)


def family(app_id: str) -> str:
    """Return what the app ids of a checkpoint and of its copies have in common."""
    return app_id.partition(FAMILY)[0]


def rearrange(path: str, table: DeltaTable, head: Head, actions: list[dict[str, Any]]) -> None:
    """Commit that the same rows of an open table, read at `head`, are in other files now.

    Raises:
        AlteredError: Another commit removed one of these files meanwhile, or altered columns.
        CommitFailedError: Others were quicker in all tries.
        InputError: The log is another one.
    """
    mine = {action["remove"]["path"] for action in actions if "remove" in action}

    def altered(action: dict[str, Any]) -> bool:
        gone = action.get("remove", {}).get("path") in mine
        return gone or bool({"metaData", "protocol"} & action.keys())

    if plain(table):
        info = _info("OPTIMIZE", {"predicate": "[]"}, readVersion=head.version)
        _put(path, head, [info, *actions], altered)
    else:
        _put_by_library(path, table, head, actions, altered)


def added(
    store: fs.FileSystem, folder: str, values: Values, rows: pa.Table, *, change: bool = False,
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Write rows without the values of their partition to a new file in a folder of the table.

    Returns:
        The action that adds it.
    """
    import pyarrow.parquet as pq

    name = f"{folder}/part-00000-{uuid4()}-c000.snappy.parquet"
    pq.write_table(rows, name, filesystem=store, **options)
    return {"add": {
        "path": quote(name, safe="/="), "partitionValues": values,
        "size": store.get_file_info(name).size,
        "modificationTime": _now(), "dataChange": change,
        "stats": json.dumps({"numRecords": len(rows)}),
    }}  # fmt: skip


def removed(path: str, size: int, values: Values) -> dict[str, Any]:
    """Return the action that removes a file whose rows are elsewhere now."""
    return {"remove": {
        "path": path, "dataChange": False, "deletionTimestamp": _now(), "size": size,
        "extendedFileMetadata": True, "partitionValues": values,
    }}  # fmt: skip


def _put(
    path: str, head: Head, actions: list[dict[str, Any]], altered: Callable[[dict[str, Any]], bool]
) -> Head:
    """Commit actions after a version, and return their version; they are on the disk then.

    Raises:
        AlteredError: A commit after `head` has an action that is `altered`, or was removed from the
            log since, so that it must be listed.
        InputError: The log is another one, and is left as it is.
    """
    log, store, version = Path(path, "_delta_log"), delta.store(path), head.version
    entry = "".join(f"{json.dumps(action)}\n" for action in actions).encode()
    made = log / f"_{uuid4()}.json.tmp"
    try:
        made.write_bytes(entry)
        # An entry that names an empty file after a loss of power ends its readers. One that is
        # empty itself is a commit of nothing to them, and is made again: it is synced when its rows
        # can be read already.
        for file in _added(path, actions):
            disk.sync(file)
        while True:
            while (others := delta.commit(store, version + 1)) is not None:
                version += 1
                if any(map(altered, others)):
                    raise AlteredError(f"version {version} of {path} altered what was read before")
            # Only entries below a checkpoint are removed: without one, the next is really the next.
            if not is_there(path, head) or last_checkpoint(path) > version:
                raise AlteredError(f"{path} went on by more than its log has after {version}")
            with suppress(FileExistsError):
                _link(path, head, made, Path(path, delta.entry_name(version + 1)))
                disk.sync(made)
                disk.sync(log)
                return Head(version + 1, entry)
    except FileNotFoundError:
        is_there(path, head)
        raise
    finally:
        made.unlink(missing_ok=True)


def settle(path: str, version: int) -> None:
    """Return when a commit of delta-rs, which syncs nothing, is on the disk; not for a store.

    Of an old commit, entry and files may be gone, and the folder above may be others' alone.
    """
    if "://" in path:
        return
    entry = Path(path, delta.entry_name(version))
    files = _added(path, delta.commit(delta.store(path), version) or [])
    for each in (*files, entry, entry.parent, Path(path), Path(path).parent):
        with suppress(FileNotFoundError, PermissionError):
            disk.sync(each)


def _added(path: str, actions: list[dict[str, Any]]) -> list[Path]:
    return [Path(path, unquote(each["add"]["path"])) for each in actions if "add" in each]


def _put_by_library(
    path: str, table: DeltaTable, head: Head, actions: list[dict[str, Any]],
    altered: Callable[[dict[str, Any]], bool],
) -> None:  # fmt: skip
    """Commit the same by delta-rs, to the version behind those that were looked at, or not at all.

    By itself it would commit behind another job's merge of the same files, too.
    """
    from deltalake import CommitProperties, PostCommitHookProperties
    from deltalake.exceptions import CommitFailedError

    store, version, given = delta.store(path), head.version, _of_library(actions)
    at_once = CommitProperties({"readVersion": head.version}, max_commit_retries=0)
    # What follows a commit may fail, and a commit that failed is made again.
    alone = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
    schema, parts = table.schema(), table.metadata().partition_columns
    for tries_left in range(REMOTE_TRIES - 1, -1, -1):
        is_there(path, head)
        table.update_incremental()
        while version < table.version():
            version += 1
            others = delta.commit(store, version)
            if others is None or any(map(altered, others)):
                raise AlteredError(f"version {version} of {path} altered what was read before")
        try:
            table.create_write_transaction(
                given, "append", schema, parts,
                commit_properties=at_once, post_commithook_properties=alone,
            )  # fmt: skip
        except CommitFailedError:
            if not tries_left:
                raise
        else:
            break
    settle(path, version + 1)
    is_there(path, head)


def _of_library(actions: list[dict[str, Any]]) -> list[AddAction | RemoveAction]:
    from deltalake.transaction import AddAction, RemoveAction

    return [
        (RemoveAction if kind == "remove" else AddAction)(**{
            _NAMES.get(name, name): value
            for name, value in {**action, "path": unquote(action["path"])}.items()
            if name != "extendedFileMetadata"
        })
        for each in actions for kind, action in each.items()
    ]  # fmt: skip


_NAMES = {
    "partitionValues": "partition_values", "modificationTime": "modification_time",
    "dataChange": "data_change", "deletionTimestamp": "deletion_timestamp",
}  # fmt: skip
"""Of fields of actions, where delta-rs names them otherwise."""


def _link(path: str, head: Head, made: Path, entry: Path) -> None:
    """Make a log entry; InputError where another log took the place of this one meanwhile."""
    os.link(made, entry)
    try:
        is_there(path, head)
    except InputError:
        with suppress(FileNotFoundError):
            if entry.samefile(made):
                entry.unlink()
        raise


def _info(operation: str, parameters: dict[str, str], **more: int) -> dict[str, Any]:
    blind = operation == "WRITE"
    info = {"timestamp": _now(), "operation": operation, "operationParameters": parameters}
    return {"commitInfo": info | {"isBlindAppend": blind, "engineInfo": "sightstream", **more}}


def _now() -> int:
    return int(time.time() * 1000)
