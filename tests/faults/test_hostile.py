"""Every command with files, settings and variables that are wrong: a line, never a traceback."""

import json
import os
import subprocess
import sys

import pytest

from tests.unit.test_cli import commands

NOTHING = "nothing that is there"
ARGUMENTS = {
    "train": ["starter", "--data", NOTHING], "models show": [], "models diff": ["starter"],
    "models promote": ["starter", "1"], "models rollback": ["starter"], "drop": [NOTHING],
    "predict": [NOTHING], "query": ["select 1"], "label": ["id", "cat"],
    "evaluate": ["starter", "--data", NOTHING], "refresh": ["starter"],
    "publish": [NOTHING, "--servers", "127.0.0.1:1", "--timeout", "1"],
    "watch": [NOTHING, "--servers", "127.0.0.1:1", "--timeout", "1"],
    "load": ["--images", NOTHING], "run": ["--once"],
}  # fmt: skip
"""The least that a command takes; others take nothing."""

ENDLESS = {"tail", "web"}
"""Commands that go on where there is nothing wrong."""


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def a_file(home):
    write(home, b"not a folder")


def folders_that_are_files(home):
    for name in ("inbox", "images", "manifests", "predictions", "registry", "checkpoints",
                 "labels", "logs", "staging", "tmp"):  # fmt: skip
        write(home / name, b"not a folder")


def noise(home):
    write(home / "registry" / "mlflow.db", b"SQLite format 3\0" + bytes(range(256)) * 8)
    write(home / "predictions" / "_delta_log" / f"{0:020d}.json", b"\xff{")
    write(home / "labels" / "_delta_log" / f"{0:020d}.json", b"\xff{")
    write(home / "checkpoints" / "folder" / "metadata", b"\xff{")
    write(home / "manifests" / f"{1:020d}.arrow", b"ARROW1\0\0")
    write(home / "manifests" / "pending", b"ARROW1")


def folders_that_are_missing_or_empty(home):
    for path in ("registry/mlflow.db", "predictions/_delta_log", "checkpoints/folder/metadata"):
        (home / path).mkdir(parents=True)


HOMES = [a_file, folders_that_are_files, noise, folders_that_are_missing_or_empty]
SETTINGS = [b"\xff\xfe", b"top_k = ", b"no_such_key = 1", b"home = 5", b"spark = 5",
            b"registry_uri = 'nonsense://x'", b"registry_uri = 'sqlite:///'",
            b"predictions_uri = 'nonsense://x/y'", b"master = 'nonsense'",
            b"registry_uri = 'http://127.0.0.1:1'",
            b"predictions_uri = 'http://127.0.0.1:1/x'"]  # fmt: skip


HOST = """
import gc, json, os, signal, sys
import alembic, deltalake, duckdb, kafka, mlflow.store.tracking.sqlalchemy_store, onnxruntime
import psutil, pyarrow.dataset, pyspark.sql, rich.progress, tifffile
import producers.load, producers.publish, producers.watch, sightstream.scoring.api
import streaming.checks, streaming.job, training.checks, training.compare, training.refresh
from sightstream.cli import doctor, main
gc.freeze()
for line in sys.stdin:
    arguments, folder, variables, said = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(60)
        os.chdir(folder)
        os.environ.update(variables)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv[1:] = arguments
        main.main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports what commands need once; a command is a fork of it, which takes a tenth of a second."""


@pytest.fixture(scope="module")
def host():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTSTREAM_")}
    environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    environment["OPENBLAS_NUM_THREADS"] = "1"  # a fork has no other threads than its own
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOST], env=environment, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def walk(host, tmp_path):
    """Runs all commands that end, each on what `make` leaves in a new home."""

    def every(make=lambda _: None, **variables):
        wrong = {}
        for number, path in enumerate(commands()):
            command, home = " ".join(path), tmp_path / f"home {number}"
            if command in ENDLESS:
                continue
            make(home)
            arguments = [*path, *ARGUMENTS.get(command, []), "--home", str(home)]
            said = tmp_path / "said"
            print(
                json.dumps([arguments, str(tmp_path), variables, str(said)]),
                file=host.stdin, flush=True,
            )  # fmt: skip
            code, text = int(host.stdout.readline()), said.read_text(errors="replace")
            if code not in range(9) or "Traceback" in text or not text.strip():
                wrong[command] = code, text[-1500:]
        return wrong

    return every


@pytest.mark.parametrize("make", HOMES)
def test_no_command_shows_a_traceback_on_a_home_that_is(walk, make):
    assert walk(make) == {}


@pytest.mark.parametrize("content", SETTINGS)
def test_no_command_shows_a_traceback_on_settings(walk, tmp_path, content):
    (tmp_path / "sightstream.toml").write_bytes(content)
    assert walk(noise) == {}  # where `run` has no starter to train


@pytest.mark.parametrize(
    "variables",
    [{"JAVA_HOME": "/nowhere"}, {"SPARK_HOME": "/nowhere"}, {"TMPDIR": "/nowhere"},
     {"SIGHTSTREAM_TOP_K": ""}, {"SIGHTSTREAM_SPARK": "{"}, {"SIGHTSTREAM_SOURCE": ","},
     {"LANG": "C", "LC_ALL": "C", "COLUMNS": "x"},
     {"HOME": "/nowhere", "MLFLOW_TRACKING_URI": "nonsense://x"}],
    ids=str,
)  # fmt: skip
def test_no_command_shows_a_traceback_with_variables(walk, variables):
    assert walk(folders_that_are_files, **variables) == {}
