"""`python -m tests.mutation.stream`: mutated images cost a running stream nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_each_mutated_file_and_message_gets_its_row_and_no_query_fails():
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation.stream", "--minutes", "0.3", "--kafka"],
        cwd=Path(__file__).parents[2], env=os.environ, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 restarts of a query, driver alive, 0 tracebacks" in done.stdout
