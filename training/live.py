"""A challenger judged by what it answered beside the champion, on the images of the stream."""

from __future__ import annotations

from dataclasses import dataclass

from sightstream.config import Settings
from sightstream.errors import InputError
from sightstream.models.registry import Registry, Version
from sightstream.tables.agreement import Agreement, agreement

AGREEMENT = 0.95
"""Share of the images on which a challenger must give the champion's label."""

LABELLED = 30
"""Images with a label that a person gave, from which on they decide instead."""


@dataclass(frozen=True)
class Judged:
    """What became of a challenger; `promoted` is None while it waits for images."""

    version: Version
    promoted: bool | None
    reason: str


def judge(registry: Registry, settings: Settings, name: str, over: int) -> Judged | None:
    """Judge the challenger of a name on all images that it and the champion answered for.

    The registry gets the decision before the alias. Returns None where there is no challenger, or
    it is decided on already.
    """
    versions = registry.versions(name)
    challenger = next((each for each in versions if "challenger" in each.aliases), None)
    champion = next((each for each in versions if "champion" in each.aliases), None)
    decided = challenger and challenger.decision.partition(":")[0] in {"promoted", "refused"}
    if challenger is None or champion is None or decided or challenger.number == champion.number:
        return None
    pair = champion.number, challenger.number
    try:
        since = max(champion.created, challenger.created)
        found = agreement(settings.predictions, name, pair, since=since, labels=settings.labels)
    except InputError as error:
        return Judged(challenger, None, str(error))
    promoted, reason = decide(found, over)
    if promoted is None:
        return Judged(challenger, None, reason)
    registry.decided(challenger, promoted=promoted, reason=reason)
    if promoted:
        challenger = registry.promote(name, challenger.number)
    return Judged(challenger, promoted, reason)


def decide(found: Agreement, over: int) -> tuple[bool | None, str]:
    """Decide on version `b`, and return the figures that decided; None: too few images so far."""
    if found.images < over:
        return None, f"both have answered for {found.images} of {over} images of the stream"
    reason = f"agrees with version {found.a} on {found.share:.1%} of {found.images} images"
    if found.labelled >= LABELLED and found.right_a != found.right_b:
        right = f"{found.right_b} against {found.right_a} of {found.labelled} labelled images right"
        return found.right_b > found.right_a, f"{right}; {reason}"
    return found.share >= AGREEMENT, reason
