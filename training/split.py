"""The split of a data set: which images are trained with, validated with, tested with, left out.

An image's side follows from its content and the seed, class by class: not from its name or place.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sightstream.errors import InputError

if TYPE_CHECKING:
    from training.datasets import Example

SPLITS = ("train", "validation", "test")

Shares = tuple[float, float, float]  # fraction of each class's images for each of `SPLITS`


def divide(
    found: Iterable[Example], seen: Mapping[str, tuple[str, str]], shares: Shares, seed: int, *,
    known: Mapping[str, str] = MappingProxyType({}), learned: Collection[str] = (),
    groups: Mapping[str, str] = MappingProxyType({}),
) -> list[Example]:  # fmt: skip
    """Gives each image its side of the split, or the reason why it has none; sorted by path.

    Images that have a side keep it. `seen` has the digest and fault of each image by its URI,
    `known` the sides by digest of an earlier training, `groups` the group of each image that has
    copies, by digest; all of a group are on one side, where a class has enough groups. `learned`
    are the classes of an earlier model: a class beside them that has too few images is left out
    until it has more.

    Raises:
        InputError: a class has too few images for its sides, or none to train on.
    """
    inspected = []
    for e in found:
        digest, fault = seen[e.uri]
        side = "" if fault else e.split
        inspected.append(replace(e, digest=digest, fault=fault, split=side))
    usable, left_out = _usable(inspected)
    usable, copied = _apart(usable, groups)
    left_out += copied
    sided = [replace(e, split=e.split or known.get(e.digest, "")) for e in usable]
    decided = [e for e in sided if e.split]
    held = defaultdict[str, Counter[str]](Counter)
    for e in decided:
        held[e.label][e.split] += 1
    by_label: defaultdict[str, list[Example]] = defaultdict(list)
    for e in sided:
        if not e.split:
            by_label[e.label].append(e)
    examples = [*left_out, *decided]
    group_sides = _sides_of(decided, groups)
    for label, members in sorted(by_label.items()):
        may_wait = bool(learned) and label not in learned
        drawn = [replace(e, split=group_sides.get(groups.get(e.digest, ""), "")) for e in members]
        following = [e for e in drawn if e.split]
        held[label].update(e.split for e in following)
        free = [e for e in drawn if not e.split]
        dealt = list(_dealt(free, held[label], shares, seed, groups, may_wait=may_wait))
        group_sides |= _sides_of([e for e in dealt if e.split], groups)
        examples += [*following, *dealt]
    _require_trained(examples)
    return sorted(examples, key=lambda e: (e.path, e.label))


def without_test(shares: Shares) -> Shares:
    """The shares of images beside a folder of test images."""
    train, validation, _ = shares
    return train / (train + validation), validation / (train + validation), 0.0


def sides(count: int, shares: Shares, held: Mapping[str, int] = MappingProxyType({})) -> list[str]:
    """Splits for `count` images of a class, beside those that it has on each side already.

    There is at least one image of all where a share is not zero.
    """
    used = zip(SPLITS, shares, strict=True)
    total = count + sum(held.get(split, 0) for split, share in used if share)
    found = list[str]()
    for split, share in zip(SPLITS[1:], shares[1:], strict=True):
        wanted = max(1, round(total * share)) if share else 0
        found += [split] * min(max(0, wanted - held.get(split, 0)), count - len(found))
    return ["train"] * (count - len(found)) + found


def _usable(images: list[Example]) -> tuple[list[Example], list[Example]]:
    """One image of each content, and the images that are left out."""
    readable = [e for e in images if not e.fault]
    left_out = [e for e in images if e.fault]
    labels = defaultdict[str, set[str]](set)
    for e in readable:
        labels[e.digest].add(e.label)
    first: dict[str, Example] = {}
    for e in sorted(readable, key=lambda e: (e.split != "test", e.path)):
        if len(labels[e.digest]) > 1:
            names = ", ".join(sorted(labels[e.digest]))
            left_out.append(_left_out(e, f"It has the labels {names}."))
        elif e.digest in first:
            left_out.append(_left_out(e, f"It is the same as {first[e.digest].path}."))
        else:
            first[e.digest] = e
    return [*first.values()], left_out


def _apart(images: list[Example], groups: Mapping[str, str]) -> tuple[list[Example], list[Example]]:
    """The images without the copies of those that the source holds out, and these copies."""
    decided = [e for e in images if e.split and e.digest in groups]
    first: dict[str, Example] = {}
    for e in sorted(decided, key=lambda e: (SPLITS.index(e.split), e.path)):
        first[groups[e.digest]] = e
    kept: list[Example] = []
    copied: list[Example] = []
    for e in images:
        held = first.get(groups.get(e.digest, ""))
        if held is None or held.split in {"train", e.split}:
            kept.append(e)
        else:
            fault = f"It is nearly the same as {held.path}, which is of the split {held.split}."
            copied.append(_left_out(e, fault))
    return kept, copied


def _sides_of(images: list[Example], groups: Mapping[str, str]) -> dict[str, str]:
    """The side of each group; of several, the one that is held out most."""
    order = sorted(images, key=lambda e: SPLITS.index(e.split))
    return {groups[e.digest]: e.split for e in order if e.digest in groups}


def _left_out(example: Example, fault: str) -> Example:
    return replace(example, split="", fault=fault)


def _dealt(
    members: list[Example], held: Counter[str], shares: Shares, seed: int,
    groups: Mapping[str, str], *, may_wait: bool,
) -> Iterator[Example]:  # fmt: skip
    """The images of a class with their sides; all of them without one where they are too few."""
    if not held.total() and len(members) < sum(share > 0 for share in shares):
        if not may_wait:
            raise InputError(
                f"the class {members[0].label} has {len(members)} usable image(s), too few to be "
                "on each side of the split"
            )
        yield from (_left_out(e, "Its class is new and has too few images yet.") for e in members)
        return
    order = sorted(members, key=lambda e: hashlib.sha256(f"{seed}:{e.digest}".encode()).digest())
    wanted = Counter(sides(len(order), shares, held))
    together = defaultdict[str, list["Example"]](list)
    for e in order:
        together[groups.get(e.digest, e.digest)].append(e)
    parts = sorted(together.values(), key=len, reverse=True)
    if len(parts) < sum(not held[each] for each in wanted):
        parts = [[e] for e in order]  # the class looks too much alike to keep groups together
    for split, part in zip(
        _of_parts([len(part) for part in parts], wanted, held), parts, strict=True
    ):
        yield from (replace(e, split=split) for e in part)


def _of_parts(sizes: Sequence[int], wanted: Counter[str], held: Counter[str]) -> Iterator[str]:
    """A split for each part, so that each gets about as many images as wanted, and one at least."""
    left, empty = wanted.copy(), [each for each in SPLITS if wanted[each] and not held[each]]
    for number, size in enumerate(sizes):
        fitting = [each for each in SPLITS if left[each] >= size]
        split = (fitting or [max(SPLITS, key=left.__getitem__)])[0]
        if len(sizes) - number <= len(empty):
            split = empty[0]
        left[split] -= size
        if split in empty:
            empty.remove(split)
        yield split


def _require_trained(examples: list[Example]) -> None:
    trained = {e.label for e in examples if e.split == "train"}
    if untrained := sorted({e.label for e in examples if e.split} - trained):
        raise InputError(f"the class {untrained[0]} has no usable image to train on")
