"""The checker: what table and topic hold against what the ledger says was sent. Pure functions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Entry = Mapping[str, Any]

DEADLINE = 90.0
"""Seconds within which an image has its row, on a machine that is not busy otherwise."""


@dataclass(frozen=True)
class Row:
    """A row, as far as it is compared.

    Attributes:
        sha256: of the file that its `uri` names; empty where the message held it.
        seen: when the row could first be read, by the clock of the observer.
    """

    event_id: str
    original_name: str
    source: str
    status: str
    label: str
    code: str
    bytes: int
    model_version: int
    batch_id: int
    sha256: str = ""
    seen: float = 0.0

    @property
    def id(self) -> str:
        return self.event_id if self.source == "kafka" else self.original_name

    @property
    def sender(self) -> str:
        """Who sent it: the streams of several homes see a new champion at different times."""
        return self.id.rpartition("-")[0]


@dataclass
class Told:
    """A ledger, by kinds of entries."""

    sent: dict[str, Entry] = field(default_factory=dict)
    maybe: dict[str, Entry] = field(default_factory=dict)
    aborted: dict[str, Entry] = field(default_factory=dict)
    gone: dict[str, Entry] = field(default_factory=dict)
    promoted: dict[int, float] = field(default_factory=dict)
    faults: list[Entry] = field(default_factory=list)
    others: list[Entry] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Told":
        told = cls()
        for each in entries:
            match each["kind"]:
                case "sent" | "maybe" | "aborted" as kind:
                    # An image that came again had arrived with its first acknowledgement.
                    getattr(told, kind).setdefault(each["id"], each)
                    if kind == "sent":
                        told.gone.pop(each["id"], None)
                case "deleted":
                    told.gone |= {i: told.sent.pop(i) for i in each["ids"] if i in told.sent}
                case "promoted":
                    told.promoted.setdefault(each["version"], each["at"])
                case "fault":
                    told.faults.append(each)
                case _:
                    told.others.append(each)
        return told


def differences(
    rows: Sequence[Row],
    entries: Iterable[Entry],
    topic: Iterable[str] | None = None,
    deadline: float = DEADLINE,
) -> Iterator[str]:
    """Yields what is wrong, the gravest first; nothing where all is right.

    Args:
        rows: of the whole table.
        entries: of the ledger.
        topic: keys of the predictions topic's messages; None where there is none.
        deadline: seconds within which an image has its row, once no fault is under way.
    """
    told = Told.of(entries)
    known = told.gone | told.maybe | told.sent
    for name, count in Counter(row.id for row in rows).items():
        if count > 1:
            batches = [(row.model_version, row.batch_id) for row in rows if row.id == name]
            yield f"doubled: {name} has {count} rows, of (version, micro-batch) {batches}"
    ids = {row.id for row in rows}
    yield from (f"lost: {_said(e)} has no row" for name, e in told.sent.items() if name not in ids)
    for row in rows:
        if row.id in known:
            yield from _unlike(row, known[row.id])
        else:
            what = "of an aborted transaction" if row.id in told.aborted else "that nobody sent"
            yield f"invented: {row.id} is a row {what}"
    yield from _versions(rows, told.promoted)
    yield from _late(rows, told, deadline)
    if topic is not None:
        keys = set(topic)
        yield from (f"untold: {r.id} is not in the predictions topic" for r in rows
                    if r.event_id not in keys)  # fmt: skip
        yield from (f"untrue: {key} is in the predictions topic, and has no row"
                    for key in keys - {row.event_id for row in rows})  # fmt: skip
    for each in told.others:
        if each["kind"] == "wrong":
            yield f"wrong: {each['what']}"
        elif not each["explained"]:
            yield f"ended: the stream ended with {each['code']} for no fault: {each['said']}"


def pauses(rows: Sequence[Row], entries: Iterable[Entry]) -> dict[str, float]:
    """The longest time from an acknowledgement to a row of a good image, by the fault's name.

    An image counts for the fault that had begun last when its row was seen, if it was sent after
    the fault before had ended.
    """
    told, longest = Told.of(entries), defaultdict[str, float](float)
    faults = sorted(told.faults, key=lambda each: each["begin"])
    for row in rows:
        if row.status == "ok" and row.id in told.sent:
            begun = [each for each in faults if each["begin"] <= row.seen]
            name = begun[-1]["name"] if begun else "none"
            since = begun[-2]["at"] if len(begun) > 1 else 0.0
            waited = row.seen - max(told.sent[row.id]["at"], since)
            longest[name] = max(longest[name], waited)
    return dict(longest)


def _unlike(row: Row, sent: Entry) -> Iterator[str]:
    status = "rejected" if sent["code"] else "ok"
    for name, is_, must in (
        ("status", row.status, status), ("code", row.code, sent["code"]),
        ("label", row.label, sent["label"]), ("bytes", row.bytes, sent["bytes"]),
        ("sha256", row.sha256 or sent["sha256"], sent["sha256"]),
    ):  # fmt: skip
        if is_ != must:
            yield f"unlike: {row.id} has the {name} {is_!r} instead of {must!r}"
            return


def _versions(rows: Sequence[Row], promoted: Mapping[int, float]) -> Iterator[str]:
    for sender in sorted({row.sender for row in rows}):
        own = [row for row in rows if row.sender == sender and row.status == "ok"]
        own.sort(key=lambda row: (row.seen, row.batch_id))
        for before, after in pairwise(own):
            if after.model_version < before.model_version:
                yield (
                    f"backwards: {after.id} has version {after.model_version} after "
                    f"{before.id} with {before.model_version}"
                )
    for row in rows:
        if row.status == "ok" and row.model_version not in {1, *promoted}:
            yield f"unfit: {row.id} has version {row.model_version}, which has a fault"
        if row.status == "ok" and row.seen < promoted.get(row.model_version, 0.0):
            yield f"early: {row.id} has version {row.model_version}, which was no champion yet"


def _late(rows: Sequence[Row], told: Told, deadline: float) -> Iterator[str]:
    for row in rows:
        if row.id in told.sent:
            came = told.sent[row.id]["at"]
            ends = [each["at"] for each in told.faults if each["begin"] <= row.seen]
            # A fault that is under way when the row is seen ends later.
            waited = row.seen - max([came, *(end for end in ends if end <= row.seen)])
            if waited > deadline and not any(end > row.seen for end in ends):
                yield f"late: {row.id} has its row {waited:.0f} s after the last fault's end"


def _said(entry: Entry) -> str:
    return f"{entry['id']} ({entry['source']}, sha256 {entry['sha256'][:12]}, at {entry['at']:.1f})"
