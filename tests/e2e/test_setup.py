"""Tests of .ci/setup on a machine that lacks what it needs; it must say so in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / ".ci" / "setup"
OLD_JAVA = Path("/usr/lib/jvm/temurin-25-jdk-amd64")


@pytest.fixture
def programs(tmp_path):
    """A PATH that has what POSIX gives, and no Python and no Java."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("awk", "cat", "dirname", "grep", "head", "rm", "sed", "sh"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture
def refusal(programs, tmp_path):
    """Runs the script, which must end with one line and leave nothing behind."""

    def run(**environment):
        done = subprocess.run(
            [SETUP],
            env={"PATH": str(programs), "VENV": str(tmp_path / "venv"), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 3
        assert done.stdout == ""
        assert done.stderr.startswith("sightstream: ")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "venv").exists()
        return done.stderr

    return run


def script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_no_python(refusal):
    said = refusal()
    assert "Python 3.10, 3.11 or 3.12 with its venv module is needed; install one" in said


def test_a_python_that_is_on_path_and_does_not_run(refusal, programs):
    script(programs / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    assert "is needed; install one" in refusal()


def test_a_python_of_another_version(refusal, programs):
    script(programs / "python3", "echo 3.13 /usr/bin/python3")
    assert "is needed, and found Python 3.13; install one" in refusal()


def test_a_python_that_was_asked_for_and_is_not_there(refusal, programs):
    (programs / "python3.11").symlink_to(sys.executable)
    assert "is needed as PYTHON=/no/python; install one" in refusal(PYTHON="/no/python")


def test_no_java(refusal):
    assert "Java 17 or 21 is needed, and found none (on PATH)" in refusal(PYTHON=sys.executable)


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "25.0.1"])
def test_a_java_of_another_version(refusal, programs, version):
    script(programs / "python3.12", "exit 127")
    script(programs / "python3.11", f'exec "{sys.executable}" "$@"')
    script(programs / "java", f"echo 'openjdk version \"{version}\" 2024-01-16' >&2")
    release = version.removeprefix("1.").partition(".")[0]
    assert f"is needed, and found {release} (on PATH)" in refusal()


@pytest.mark.skipif(not OLD_JAVA.exists(), reason="this machine has no other Java")
def test_a_java_home_of_another_version(refusal):
    said = refusal(PYTHON=sys.executable, JAVA_HOME=str(OLD_JAVA))
    assert f"and found 25 ({OLD_JAVA})" in said


def test_make_adds_no_more_than_its_own_line(programs, tmp_path):
    environment = {**os.environ, "VENV": str(tmp_path / "venv"), "PYTHON": "/no/python"}
    make = ["make", "--no-print-directory", "-C", SETUP.parents[1], "run"]
    done = subprocess.run(make, env=environment, capture_output=True, text=True, timeout=60)
    first, second = done.stderr.splitlines()
    assert first.startswith("sightstream: Python 3.10")
    assert second.startswith("make")
