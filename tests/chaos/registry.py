"""Writes into a registry, in a process of its own: so this one has no file of the home open.

`python -m tests.chaos.registry publish ADDRESS COPIES`, or `champion ADDRESS NUMBER`.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sightstream.models.registry import STARTER, Registry
from sightstream.models.version import read_card, write_card
from tests.chaos.engine import FAULTS, MARK


def publish(address: str, copies: str) -> None:
    """Registers copies of the first version, each with its labels in an order of its own.

    Then come versions with each fault of `engine`.
    """
    registry = Registry(address)
    first = registry.version(STARTER, 1)
    files, curves = first.folder, registry.curves(first)
    card = read_card(files)

    def add(folder: Path, digest: str, what: object) -> None:
        with registry.report(first) as report:
            registry.publish(
                STARTER, folder, digest, parameters={"copy": what}, metrics=first.metrics,
                curves=curves, report=report,
            )  # fmt: skip

    for what in (*range(int(copies)), *FAULTS):
        with TemporaryDirectory() as made:
            folder = Path(made) / "version"
            shutil.copytree(files, folder)
            if isinstance(what, int):
                named = replace(card, labels=tuple(ordered(card.labels, first.number + 1 + what)))
                add(folder, write_card(folder, named), what)
                continue
            with (folder / "model.onnx").open("ab") as file:
                file.write(MARK + what.encode())
            add(folder, write_card(folder, card), what)


def ordered(labels: Sequence[str], version: int) -> Sequence[str]:
    """The labels of a version, by those of the first: a row's label tells which version gave it."""
    by = (version - 1) % len(labels)
    return [*labels[by:], *labels[:by]]


def champion(address: str, number: str) -> None:
    """Makes a version the champion, as another client does: without a look at it."""
    registry = Registry(address)
    registry._client.set_registered_model_alias(STARTER, "champion", number)


def call(*arguments: object) -> None:
    """Does it; RuntimeError with what it said where it failed."""
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr}")


if __name__ == "__main__":
    {"publish": publish, "champion": champion}[sys.argv[1]](*sys.argv[2:])
