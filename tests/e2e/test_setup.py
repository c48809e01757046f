"""Tests of .ci/setup on a machine that lacks what it needs; it must say so in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / ".ci" / "setup"


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
    assert "Python 3.11, 3.12 or 3.13 with its venv module is needed; install one" in said


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("uv", "uv python install 3.13"),
        ("pyenv", "pyenv install 3.13"),
        ("conda", "conda create --name sightstream python=3.13"),
        ("apt-get", "apt-get install python3 python3-venv"),
        ("brew", "brew install python@3.13"),
    ],
)
def test_the_command_that_installs_one_is_one_of_this_machine(refusal, programs, program, command):
    script(programs / program, "exit 1")
    assert f"install one with: {command}, or name it" in refusal()


def test_a_python_that_is_on_path_and_does_not_run(refusal, programs):
    script(programs / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    assert "is needed; install one" in refusal()


def test_a_python_of_another_version(refusal, programs):
    script(programs / "python3", "echo 3.10 /usr/bin/python3")
    assert "is needed, and found Python 3.10; install one" in refusal()


def test_a_python_that_was_asked_for_and_is_not_there(refusal, programs):
    (programs / "python3.11").symlink_to(sys.executable)
    assert "is needed as PYTHON=/no/python; install one" in refusal(PYTHON="/no/python")


def test_no_java(refusal):
    assert "Java 17, 21 or 25 is needed, and found none (on PATH)" in refusal(PYTHON=sys.executable)


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "24.0.1"])
def test_a_java_of_another_version(refusal, programs, version):
    script(programs / "python3.12", "exit 127")
    script(programs / "python3.11", f'exec "{sys.executable}" "$@"')
    script(programs / "java", f"echo 'openjdk version \"{version}\" 2024-01-16' >&2")
    release = version.removeprefix("1.").partition(".")[0]
    assert f"is needed, and found {release} (on PATH)" in refusal()


def test_a_java_home_of_another_version(refusal, tmp_path):
    home = tmp_path / "java"
    script(home / "bin" / "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    assert f"and found 11 ({home})" in refusal(PYTHON=sys.executable, JAVA_HOME=str(home))


def not_on_path(name, tmp_path, programs):
    """Puts this Python where a tool keeps those that are on no PATH."""
    stand_in = f'exec "{sys.executable}" "$@"'
    if name == "pyenv":
        script(tmp_path / ".pyenv" / "versions" / "3.12.1" / "bin" / "python3", stand_in)
    elif name == "conda":
        script(tmp_path / "an environment" / "bin" / "python3", stand_in)
        (tmp_path / ".conda").mkdir()
        listed = f"{tmp_path}/gone\n{tmp_path}/an environment\n"
        (tmp_path / ".conda" / "environments.txt").write_text(listed)
    else:
        script(tmp_path / "uv's" / "python3.13", stand_in)
        script(programs / "uv", f'[ $5 = 3.13 ] && echo "{tmp_path}/uv\'s/python3.13"')


@pytest.mark.parametrize("tool", ["pyenv", "conda", "uv"])
def test_a_python_that_is_on_no_path_is_found(refusal, programs, tmp_path, tool):
    not_on_path(tool, tmp_path, programs)
    # It goes on to look at Java, which is not there.
    assert "Java 17, 21 or 25 is needed" in refusal(HOME=str(tmp_path))


def test_make_adds_no_more_than_its_own_line(programs, tmp_path):
    environment = {**os.environ, "VENV": str(tmp_path / "venv"), "PYTHON": "/no/python"}
    make = ["make", "--no-print-directory", "-C", SETUP.parents[1], "run"]
    done = subprocess.run(make, env=environment, capture_output=True, text=True, timeout=60)
    first, second = done.stderr.splitlines()
    assert first.startswith("sightstream: Python 3.11")
    assert second.startswith("make")
