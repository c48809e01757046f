"""`python -m tests.chaos`: a run with faults loses nothing, and one with a bug tells of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def chaos(starter, tmp_path):
    """Runs it with the starter of the tests; returns its exit code, and what it said."""

    def run(*arguments):
        done = subprocess.run(
            [
                sys.executable, "-m", "tests.chaos", "--starter", starter.home,
                "--folder", tmp_path, "--shrink", "0", *arguments,
            ],
            cwd=Path(__file__).parents[2], env=os.environ, capture_output=True, text=True,
            timeout=900,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


def test_kills_cost_no_image_and_none_is_doubled(chaos, tmp_path):
    code, said = chaos("--minutes", "0.8", "--faults", "kill driver;kill worker;lethal image")
    assert (code, said.splitlines()[-1]) == (
        0, "verdict: nothing lost, nothing doubled, nothing wrong"
    ), said  # fmt: skip
    assert not [*tmp_path.iterdir()]


def test_a_deliberate_bug_is_found(chaos):
    code, said = chaos("--minutes", "0.8", "--faults", "lethal image", "--bug", "isolation")
    assert code == 1
    assert "the first: lost: " in said
