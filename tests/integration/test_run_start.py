"""A start of `run` that ends early leaves neither a JVM nor a held home folder."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sightstream.io import disk


@pytest.fixture
def home(tmp_path):
    """A home folder whose registry is there, and has no model."""
    (tmp_path / "home" / "registry").mkdir(parents=True)
    (tmp_path / "home" / "registry" / "mlflow.db").touch()
    return tmp_path / "home"


def jvms(home):
    told = [(each, each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
    return [each for each, line in told if f"spark.local.dir={home}" in " ".join(line)]


@contextmanager
def starting(home, model="none"):
    command = [sys.executable, "-m", "sightstream", "run", "--model", model, "--metrics-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "SIGHTSTREAM_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            for left in jvms(home):
                left.kill()


def test_a_model_that_is_not_there_ends_it_with_a_sentence(home):
    with starting(home) as process:
        said = process.communicate(timeout=180)[1]
        assert process.returncode == 5, said
        assert "no version of 'none' has the alias 'champion'" in said
        assert "Traceback" not in said
        assert not jvms(home)
    assert not disk.is_held(home)


def test_ctrl_c_ends_it_while_spark_starts(home, until):
    with starting(home) as process:
        until(lambda: jvms(home), 120)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=180)[1]
        assert process.returncode
        assert "Traceback" not in said
        until(lambda: not jvms(home), 30)
    assert not disk.is_held(home)


@pytest.mark.parametrize("model", ["", "starter"])
def test_a_home_that_has_run_gets_no_starter_while_its_registry_is_away(tmp_path, model):
    (tmp_path / "checkpoints" / "folder").mkdir(parents=True)
    with starting(tmp_path, model) as process:
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 5, said
    assert f"the registry {tmp_path / 'registry'} is empty" in said
    assert not (tmp_path / "registry").exists()
