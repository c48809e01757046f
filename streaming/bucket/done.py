"""What becomes of objects once their rows are committed: they are tagged, or moved away.

It is done again after a crash, and never to another version than the row's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from sightstream.errors import ConfigError
from streaming.bucket.s3 import S3
from streaming.bucket.store import AwayError, Place, claimed, place

log = logging.getLogger(__name__)

TAG = ("sightstream", "done")
_AT_ONCE = 16

Done = Callable[[Sequence[str]], None]
"""Called with the claims of objects that have a row."""


def action(said: str, inbox: Place) -> Done | None:
    """Return what the setting `inbox_done` asks for; None: nothing.

    Raises:
        ConfigError: it is neither `tag` nor a folder that objects can be moved to.
    """
    if not said:
        return None
    if not isinstance(inbox.bucket, S3):
        raise ConfigError("inbox_done is for buckets that speak S3: leave it empty")
    if said == "tag":
        return lambda claims: _each(_tag, claims)
    target = place(said)
    if not isinstance(target.bucket, S3):
        raise ConfigError("inbox_done: objects are moved within S3: name a uri s3://...")
    if target.uri.startswith(inbox.uri):
        raise ConfigError(
            f"inbox_done: {target.uri} is part of the inbox {inbox.uri}, where objects would come "
            "again; name a folder beside it"
        )
    bucket, folder = target.bucket, target.folder
    return lambda claims: _each(lambda claim: _move(claim, inbox, bucket, folder), claims)


def _each(run: Callable[[str], None], claims: Sequence[str]) -> None:
    def tried(claim: str) -> str:
        try:
            run(claim)
        except AwayError as error:
            return f"{claim.partition('#')[0]} stays as it is: {error}"
        return ""

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        faults = [why for why in threads.map(tried, claims) if why]
    if faults:
        log.warning("%s; so do %s more", faults[0], len(faults) - 1)


def _tag(claim: str) -> None:
    if found := _there(claim):
        found[0].tag(found[1], *TAG)


def _move(claim: str, inbox: Place, target: S3, folder: str) -> None:
    if claim.startswith(inbox.uri) and (found := _there(claim)):  # not of an inbox set before
        bucket, key, version = found
        bucket.move(key, version, target.name, folder + key[len(inbox.folder) :])


def _there(claim: str) -> tuple[S3, str, str] | None:
    """Return bucket, key and version of an object that still has this version."""
    bucket, key, version = claimed(claim)
    found = bucket.find(key)
    same = isinstance(bucket, S3) and found and found.version == version
    return (cast(S3, bucket), key, version) if same else None
