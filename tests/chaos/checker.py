"""The checker: what table and topic hold against what the ledger says was sent. Pure functions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Entry = Mapping[str, Any]

DEADLINE = 90.0
"""Seconds within which an image has its row, on a machine that is not busy otherwise."""

SETTLED = 45.0
"""Seconds after which a new champion has taken over: it loads with a low priority."""


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


@dataclass(frozen=True)
class Message:
    """A message of the predictions topic, as far as it is compared."""

    key: str
    event_id: str
    status: str
    label: str
    model_version: int


@dataclass
class Told:
    """A ledger, by kinds of entries.

    Attributes:
        sent: also what was found in the topic of images without an acknowledgement.
        maybe: what may have arrived; where the topic was read, what is not in it.
        gone: what was deleted before it was read.
        promoted: when, by version.
        labels: of a version, by those of the first.
        starts: when a stream was started and ready, of each that was.
    """

    sent: dict[str, Entry] = field(default_factory=dict)
    maybe: dict[str, Entry] = field(default_factory=dict)
    aborted: dict[str, Entry] = field(default_factory=dict)
    gone: dict[str, Entry] = field(default_factory=dict)
    promoted: dict[int, float] = field(default_factory=dict)
    labels: dict[int, Mapping[str, str]] = field(default_factory=dict)
    starts: list[tuple[float, float]] = field(default_factory=list)
    is_read: bool = False
    faults: list[Entry] = field(default_factory=list)
    others: list[Entry] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Told":
        told, started = cls(), dict[str, float]()
        for each in entries:
            match each["kind"]:
                case "sent" | "maybe" | "aborted" as kind:
                    # An image that came again had arrived with its first acknowledgement.
                    getattr(told, kind).setdefault(each["id"], each)
                    if kind == "sent":
                        told.gone.pop(each["id"], None)
                case "arrived":
                    told.is_read = True
                    for name in told.maybe.keys() & each["ids"]:
                        told.sent.setdefault(name, told.maybe[name])
                case "deleted":
                    told.gone |= {i: told.sent.pop(i) for i in each["ids"] if i in told.sent}
                case "promoted":
                    told.promoted.setdefault(each["version"], each["at"])
                    told.labels[each["version"]] = each.get("labels", {})
                case "started":
                    started[each["home"]] = each["at"]
                case "ready":
                    told.starts.append((started[each["home"]], each["at"]))
                case "fault":
                    told.faults.append(each)
                case _:
                    told.others.append(each)
        for name in told.maybe.keys() & (told.sent.keys() | told.gone.keys()):
            del told.maybe[name]
        return told


def differences(
    rows: Sequence[Row],
    entries: Iterable[Entry],
    topic: Iterable[Message] | None = None,
    deadline: float = DEADLINE,
    settled: float = SETTLED,
) -> Iterator[str]:
    """Yields what is wrong, the gravest first; nothing where all is right.

    Args:
        rows: of the whole table.
        entries: of the ledger.
        topic: the predictions topic; None where there is none.
        deadline: seconds within which an image has its row, once no fault holds it up.
        settled: seconds after which a new champion has taken over, once no fault holds it up.
    """
    told = Told.of(entries)
    known = told.gone | ({} if told.is_read else told.maybe) | told.sent
    for name, count in Counter(row.id for row in rows).items():
        if count > 1:
            batches = [(row.model_version, row.batch_id) for row in rows if row.id == name]
            yield f"doubled: {name} has {count} rows, of (version, micro-batch) {batches}"
    ids = {row.id for row in rows}
    yield from (f"lost: {_said(e)} has no row" for name, e in told.sent.items() if name not in ids)
    for row in rows:
        if row.id in known:
            yield from _unlike(row, known[row.id], told.labels.get(row.model_version, {}))
        else:
            aborted = row.id in told.aborted | told.maybe
            what = "of an aborted transaction" if aborted else "that nobody sent"
            yield f"invented: {row.id} is a row {what}"
    yield from _versions(rows, told.promoted)
    yield from _stale(rows, told, settled)
    yield from _late(rows, told, deadline)
    if topic is not None:
        yield from _topic(rows, topic)
    for each in told.others:
        if each["kind"] == "wrong":
            yield f"wrong: {each['what']}"
        elif not each["explained"]:
            yield f"ended: the stream ended with {each['code']} for no fault: {each['said']}"


def pauses(rows: Sequence[Row], entries: Iterable[Entry]) -> dict[str, float]:
    """The longest time from an acknowledgement to a row of a good image, by the fault's name.

    An image counts for the fault that had begun last when its row was seen, if it was sent after
    the fault before had ended. Faults without an effect do not count.
    """
    told, longest = Told.of(entries), defaultdict[str, float](float)
    faults = sorted((e for e in told.faults if e["effect"]), key=lambda each: each["begin"])
    for row in rows:
        if row.status == "ok" and row.id in told.sent:
            begun = [each for each in faults if each["begin"] <= row.seen]
            name = begun[-1]["name"] if begun else "none"
            since = begun[-2]["at"] if len(begun) > 1 else 0.0
            waited = row.seen - max(told.sent[row.id]["at"], since)
            longest[name] = max(longest[name], waited)
    return dict(longest)


def effects(entries: Iterable[Entry]) -> dict[str, tuple[int, int]]:
    """How many faults of a name had an effect, and how many there were."""
    found = dict[str, tuple[int, int]]()
    for each in Told.of(entries).faults:
        had, there = found.get(each["name"], (0, 0))
        found[each["name"]] = had + each["effect"], there + 1
    return found


def excused(rows: Sequence[Row], entries: Iterable[Entry]) -> dict[str, int]:
    """How many images have no row and need none, by the reason."""
    told, ids = Told.of(entries), {row.id for row in rows}
    return {
        "were deleted unread": len(told.gone.keys() - ids),
        "were never committed": len(told.maybe.keys() - ids),
    }


def _topic(rows: Sequence[Row], topic: Iterable[Message]) -> Iterator[str]:
    told, by = set[str](), {row.event_id: row for row in rows}
    for each in topic:
        told.add(each.key)
        if not (row := by.get(each.key)):
            yield f"untrue: {each.key} is in the predictions topic, and has no row"
            continue
        must = Message(row.event_id, row.event_id, row.status, row.label, row.model_version)
        if each != must:
            yield f"untrue: the predictions topic has {each} instead of {must}"
    yield from (f"untold: {r.id} is not in the predictions topic" for r in rows
                if r.event_id not in told)  # fmt: skip


def _unlike(row: Row, sent: Entry, labels: Mapping[str, str]) -> Iterator[str]:
    status = "rejected" if sent["code"] else "ok"
    label = labels.get(sent["label"], sent["label"])
    for name, is_, must in (
        ("status", row.status, status), ("code", row.code, sent["code"]),
        ("label", row.label, label), ("bytes", row.bytes, sent["bytes"]),
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


def _stale(rows: Sequence[Row], told: Told, settled: float) -> Iterator[str]:
    holding = [e for e in told.faults if e["effect"] and e["champions"] is not None]
    for row in rows:
        if row.status != "ok" or row.id not in told.sent:
            continue
        sent = told.sent[row.id]["at"]
        must, since = max(
            ((v, at) for v, at in told.promoted.items() if at + settled < sent), default=(0, 0.0)
        )
        if row.model_version >= must:
            continue
        ends = [e["at"] + e["champions"] for e in holding if e["begin"] <= row.seen]
        free = max([since, *ends])
        # A stream that was started before may have looked before.
        free = max([free, *(ready for begin, ready in told.starts if begin < free)])
        if sent > free + settled:
            yield (
                f"stale: {row.id} has version {row.model_version}, {sent - free:.0f} s after "
                f"{must} could be loaded"
            )


def _late(rows: Sequence[Row], told: Told, deadline: float) -> Iterator[str]:
    for row in rows:
        if row.id in told.sent:
            came = told.sent[row.id]["at"]
            ends = [
                each["at"] for each in told.faults
                if each["effect"] and each["delays"] and each["begin"] <= row.seen
            ]  # fmt: skip
            # A fault that is under way when the row is seen ends later.
            waited = row.seen - max([came, *(end for end in ends if end <= row.seen)])
            if waited > deadline and not any(end > row.seen for end in ends):
                yield f"late: {row.id} has its row {waited:.0f} s after the last fault's end"


def _said(entry: Entry) -> str:
    return f"{entry['id']} ({entry['source']}, sha256 {entry['sha256'][:12]}, at {entry['at']:.1f})"
