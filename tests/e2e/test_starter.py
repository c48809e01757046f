"""The starter model as its training left it, and the commands on models."""

import json
import re

import pytest


@pytest.fixture(scope="module")
def home(new_home):
    return new_home(own_registry=True)


def one_line(done, code):
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("sightstream: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_it_is_accurate_on_digits_it_never_saw(starter):
    assert starter.report["metrics"]["accuracy"] >= 0.97
    assert starter.report["metrics"]["test_images"] >= 300


def test_on_the_screen_of_its_training_stand_our_lines_alone(starter):
    """Libraries print in between, into the log, whatever shows a bar on the terminal meanwhile."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", starter.screen)
    lines = {line.strip() for line in re.split(r"[\r\n]+", text)} - {""}
    ours = re.compile(
        r"starter(: [a-zA-Z ]+)? +[━╸╺]+ .*"
        r"|starter version 1 is the champion now \(there was no champion\): accuracy [\d.]+, "
        r"macro F1 [\d.]+ on \d+ unseen images|look at /.*/report\.html"
    )
    assert any(line.startswith("starter: training") for line in lines)
    assert [line for line in lines if not ours.fullmatch(line)] == []
    log = (starter.home / "logs" / "train.log").read_text()
    assert ">>> Fit model" in log or "FutureWarning" in log


def test_the_first_version_is_promoted(starter):
    assert starter.report["model"] == "starter"
    assert (starter.report["version"], starter.report["promoted"]) == (1, True)
    assert starter.report["reason"] == "there was no champion"


def test_models_list_tells_the_champion(home, starter):
    (version,) = json.loads(home("models", "list", "--json").stdout)
    assert (version["name"], version["number"]) == ("starter", 1)
    assert version["aliases"] == ["champion"]
    assert version["metrics"] == pytest.approx(starter.report["metrics"])


def test_models_show_tells_what_the_version_is(home):
    shown = json.loads(home("models", "show", "starter", "--json").stdout)
    assert shown["labels"] == list("0123456789")
    assert shown["preprocessing"]["width"] == shown["preprocessing"]["height"] == 16
    assert shown["onnx_difference"] <= 1e-4
    assert set(shown["checksums"]) == {"model.keras", "model.onnx"}
    assert shown["training"]["seed"] == 0


def test_promoting_an_unknown_version_is_refused(home):
    said = one_line(home("models", "promote", "starter", "99"), 5)
    assert "no version of 'starter' has the version '99'" in said


def test_rolling_back_the_first_champion_is_refused(home):
    said = one_line(home("models", "rollback", "starter"), 5)
    assert "'starter' had no champion before this one" in said


def test_rolling_back_an_unknown_model_is_refused(home):
    assert "no version of 'nothing'" in one_line(home("models", "rollback", "nothing"), 5)
