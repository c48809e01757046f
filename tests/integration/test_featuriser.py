"""`train --featuriser` of an imported network, its refresh, and what the version is then."""

import json
import subprocess
import sys

import pytest

from sightstream.config import load
from sightstream.models.registry import Registry
from sightstream.models.version import sha256
from tests.colours import COLOURS, YELLOW, draw
from tests.foreign import save

MORE = COLOURS | YELLOW


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a command on a home into which a network was imported as `net`."""
    home = tmp_path_factory.mktemp("featuriser") / "home"

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "sightstream", *map(str, arguments), "--home", str(home)],
            capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    command.home = home
    given = ("--name", "net", "--labels", "a,b,c,d", "--scale", "0..1", "--promote")
    done = command("models", "import", save(home.parent / "net"), *given)
    assert done.returncode == 0, done.stderr
    return command


@pytest.fixture(scope="module")
def registry(run):
    return Registry(load(home=run.home).registry_address)


@pytest.fixture(scope="module")
def trained(run):
    """A model of a recipe whose own network learns all by itself, on the imported one."""
    data = draw(run.home.parent / "data", COLOURS, 40, seed=1)
    done = run("train", "leaf", "--data", data, "--featuriser", "net", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_head_and_network_become_one_served_model(run, trained):
    told, _ = trained
    assert (told["model"], told["version"], told["promoted"]) == ("leaf", 1, True)
    assert told["metrics"]["f1_macro"] >= 0.95
    picture = next((run.home.parent / "data" / "green").iterdir())
    done = run("predict", picture, "--model", "leaf", "--json")
    assert json.loads(done.stdout)[0]["top"][0]["label"] == "green"


def test_tensorflow_is_not_started_for_it(trained):
    assert "TensorFlow" not in trained[1]
    assert "starting Spark" in trained[1]


def test_the_version_tells_its_featuriser(run, trained, registry):
    version = registry.version("leaf")
    card, files = registry.card(version), version.folder
    network = registry.version("net").folder / "model.onnx"
    assert card.origin["featuriser"] == card.training["featuriser"] == "net@1"
    assert card.origin["featuriser_sha256"] == sha256(network)
    assert (card.preprocessing.shape, card.labels) == ((16, 20, 3), ("blue", "green", "red"))
    assert card.onnx_difference < 1e-5
    assert card.reference is not None
    assert (files / "split.csv").exists()
    assert not (files / "model.keras").exists()
    with registry.report(version) as report:
        assert (report / "report.html").exists()
    assert "net@1" in run("models", "show", "leaf").stdout


def test_it_has_no_file_for_the_engine_keras(run, trained, monkeypatch):
    monkeypatch.setenv("SIGHTSTREAM_ENGINE", "keras")
    picture = next((run.home.parent / "data" / "green").iterdir())
    done = run("predict", picture, "--model", "leaf")
    assert done.returncode == 5
    assert "leaf version 1 has no model.keras; set engine to auto" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refresh_learns_the_head_anew_on_the_same_featuriser(run, trained, registry):
    # What the featuriser's name has become meanwhile does not matter.
    again = ("--name", "net", "--labels", "a,b,c,d", "--scale", "0..255", "--promote")
    assert run("models", "import", save(run.home.parent / "net2"), *again).returncode == 0
    data = draw(run.home.parent / "more", MORE, 20, seed=2)
    done = run("refresh", "leaf", "--data", data, "--margin", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"] == 2
    assert told["metrics"]["f1_macro"] >= 0.95
    first, second = (registry.card(registry.version("leaf", number)) for number in (1, 2))
    assert second.labels == ("blue", "green", "red", "yellow")
    assert second.origin == first.origin
    assert second.training["featuriser"] == "net@1"
    assert second.preprocessing == first.preprocessing


@pytest.mark.slow
def test_a_head_of_elephas_is_folded_too(run, trained, registry):
    arguments = ("--data", run.home.parent / "data", "--featuriser", "net@1", "--head", "elephas",
                 "--epochs", "12", "--batch-size", "8", "--name", "other", "--json")  # fmt: skip
    done = run("train", "xray", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["f1_macro"] >= 0.8
    card = registry.card(registry.version("other"))
    assert card.onnx_difference < 1e-5
    assert card.origin["featuriser"] == "net@1"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--featuriser", "net@9"), 5, "no version of 'net' has the version '9'"),
        (("--featuriser", "nobody"), 2, "--featuriser takes its place where it names a registered"),
        (("--featuriser", "net@1", "--weights", "w.h5"), 2, "leave --weights out"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run, arguments, code, told):
    done = run("train", "leaf", "--data", run.home.parent / "data", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
