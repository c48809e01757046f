"""Run it: python -m tests.mutation --seed 1 --minutes 10 --only images,headers."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from sightstream.images import formats
from sightstream.images.limits import DEFAULT_LIMITS
from sightstream.models.version import serve
from sightstream.scoring import retry
from tests.mutation import seeds
from tests.mutation.targets import TARGETS
from tests.mutation.trial import Inputs, Tried, tried
from tests.tiny_model import write_version

_LARGEST = 2**18  # bytes of a given file: a mutation in the pixels of a large one shows little
_LOST = {"crashed", "timeout"}
_ROUND = 20.0
"""Seconds of a target until the next one's turn."""


def main() -> int:
    """Mutate for some minutes; return 1 where something raised, hung or died that must not."""
    asked = _arguments()
    names = [
        name for name, target in TARGETS.items()
        if (name in asked.only or name.split("/")[0] in asked.only)
        or (not asked.only and not target.alone)
    ]  # fmt: skip
    if not names:
        print(f"--only takes {', '.join(TARGETS)}, or images", file=sys.stderr)
        return 2
    given = files_by_format(asked.files) if asked.files else {}
    all_of = {name: Inputs(name, asked.seed, seeds_of(name, given), TARGETS[name].words)
              for name in names}  # fmt: skip
    results = {name: Tried() for name in names}
    share = 60 * asked.minutes / len(names)
    turn = min(_ROUND, share)
    for number in range(max(1, round(share / turn))):
        for name in names:
            # The numbers of a turn begin where no turn before can have come to.
            more = tried(all_of[name], turn, asked.first + number * 10**7)
            results[name].outcomes += more.outcomes
            results[name].finds += more.finds
            for find in more.finds:
                print(f"  {find}", flush=True)
                if name.startswith("images/") and find.what in _LOST:
                    _, data, _ = all_of[name](find.number, TARGETS[name])
                    print(f"    the stream's row: {row_of(data)}", flush=True)
        _print(results)
    return int(any(_counts(name, each.what) for name in names for each in results[name].finds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set())
    parser.add_argument("--files", type=Path, help="a folder of further images to mutate")
    return parser.parse_args()


def files_by_format(folder: Path) -> Mapping[str, list[bytes]]:
    """The files of a folder by the format that they begin as; others come to all formats."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and 0 < path.stat().st_size <= _LARGEST:
            data = path.read_bytes()
            format = formats.find(data)
            if format:
                found.setdefault(format.name, []).append(data)
    return found


def seeds_of(name: str, given: Mapping[str, Sequence[bytes]]) -> Mapping[str, Sequence[bytes]]:
    made = TARGETS[name].seeds()
    if name.startswith("images/"):
        (format,) = made
        # Parts of other formats' files come in between, as a third of all.
        return {
            format: [*made[format], *given.get(format, ())],
            "of others": seeds.others_of(format)[:3],
        }
    return made


def row_of(data: bytes) -> str:
    """What the stream answers for an image whose worker died: its second try."""
    with tempfile.TemporaryDirectory() as folder:
        digest = write_version(Path(folder, "version"))
        model = serve(Path(folder, "version"), "tiny", 1, digest, "onnx", "cpu")
        ((_, (answer,)),) = retry.answered([(pa.table({}), [data])], model, DEFAULT_LIMITS, 3)
    return f"{answer.error_code or 'ok'}: {answer.error_detail}"


def _counts(name: str, what: str) -> bool:
    """Whether a find must not be: a decoder may take its own process with it, and no more."""
    return not (TARGETS[name].may_die and what in _LOST)


def _print(results: Mapping[str, Tried]) -> None:
    for name, found in results.items():
        outcomes = Counter[str]()
        for (_, outcome), count in found.outcomes.items():
            outcomes[outcome] += count
        said = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{name}: {outcomes.total():,} tried: {said}; {len(found.finds)} finds", flush=True)


if __name__ == "__main__":
    sys.exit(main())
