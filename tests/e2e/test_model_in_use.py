"""Which model is served where no setting names one, and what `train` says about it."""

import json
import shutil
from dataclasses import replace

import pytest

from sightstream.models.registry import Registry
from training.commands import _serving


@pytest.fixture
def publish(starter):
    """Registers the starter's files as the champion of another name."""
    theirs = Registry(f"sqlite:///{starter.database}")
    first = theirs.version("starter")

    def copy(home, name):
        registry = Registry(home.settings.registry_address)
        version = registry.publish(
            name, first.folder, first.digest, parameters={}, metrics={}, curves={}
        )
        registry.promote(name, version.number)

    return copy


@pytest.fixture
def home(new_home, publish):
    """A home with one model, which is not the starter."""
    home = new_home(own_registry=True)
    shutil.rmtree(home.settings.registry)
    publish(home, "leaf")
    return home


def test_the_only_model_is_served_and_no_other_is_trained(home, starter):
    inbox = home.settings.inbox
    inbox.mkdir()
    shutil.copyfile(starter.digits[0], inbox / "x.png")
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert [row["model"] for row in home.table().to_pylist()] == ["leaf"]
    assert json.loads(home("models", "show", "--json").stdout)["name"] == "leaf"
    (answer,) = json.loads(home("predict", starter.digits[0], "--json").stdout)
    assert answer["model"] == "leaf"
    assert "leaf version 1" in home("status").stdout


def test_of_several_models_one_must_be_named(home, publish, starter):
    publish(home, "skin")
    said = (
        "sightstream: the registry has the models leaf, skin; name the one to use: set model in "
        "sightstream.toml or SIGHTSTREAM_MODEL, as in SIGHTSTREAM_MODEL=leaf, or "
        "--model leaf where the command has it\n"
    )
    for command in (["run", "--once", "--metrics-port", "0"], ["models", "show"],
                    ["predict", starter.digits[0]]):  # fmt: skip
        done = home(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(said), done.stderr
    assert "model  not set; the registry has leaf, skin\n" in home("status").stdout
    assert json.loads(home("models", "show", "--json", model="skin").stdout)["name"] == "skin"


def test_the_starter_is_trained_in_an_empty_registry_only(home):
    done = home("run", "--once", "--metrics-port", "0", "--model", "starter")
    assert done.returncode == 5
    assert "no version of 'starter'" in done.stderr
    assert Registry(home.settings.registry_address).names() == ["leaf"]


def test_train_ends_with_the_command_that_serves_its_model(starter):
    version = Registry(f"sqlite:///{starter.database}").version("starter")
    assert _serving(version, " --home x") == "sightstream run --model starter --home x"
    refused = replace(version, number=2, aliases=("challenger",))
    assert _serving(refused, "") == "sightstream models promote starter 2"
