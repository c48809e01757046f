"""tests.chaos.bugs: each replaces what is there, by something that is called in the same way."""

import subprocess
import sys
from pathlib import Path

FIT = """
import inspect
from types import SimpleNamespace
from sightstream.io import disk
from sightstream.tables import commits
from streaming import checkpoint
from streaming.champion import Champion
from streaming.folder import source
from streaming.kafka import duplicates, lag
from streaming.kafka.publisher import Publisher
from streaming.workers import Workers
from tests.chaos.bugs import BUGS

PLACES = [disk, commits, source, duplicates, lag, Champion, Publisher, Workers]

def found():
    return [dict(vars(each)) for each in PLACES]

def fits(old, new):
    if isinstance(new, SimpleNamespace):
        changed = [n for n, each in vars(new).items() if each is not vars(old)[n]]
        return bool(changed) and all(fits(vars(old)[n], vars(new)[n]) for n in changed)
    if not callable(old):
        return type(old) is type(new)
    names = [*inspect.signature(old).parameters]
    inspect.signature(new).bind(*names)
    inspect.signature(new).bind(names[0], **dict.fromkeys(names[1:]))
    return True

for name, bug in BUGS.items():
    before = found()
    bug()
    replaced = [
        fits(old[key], new[key])
        for old, new in zip(before, found(), strict=True)
        for key in old if old[key] is not new[key]
    ]
    print(name, bool(replaced) and all(replaced))
"""


def test_a_bug_is_called_as_what_it_replaces():
    done = subprocess.run(
        [sys.executable, "-c", FIT], cwd=Path(__file__).parents[2], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = dict(line.split() for line in done.stdout.splitlines())
    assert len(said) == 8
    assert set(said.values()) == {"True"}
