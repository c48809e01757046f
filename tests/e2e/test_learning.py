"""A user's own recipe: trained, evaluated, refreshed, refused, extended; all by the commands."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from sightstream.models.engines import FASTER
from tests.colours import COLOURS, YELLOW, draw

RECIPE = """
from sightstream.images.decode import Preprocessing
from training.recipes import Recipe
from training.recipes.blocks import cnn

PIXELS = Preprocessing(16, 16)
RECIPE = Recipe(
    name="colours",
    preprocessing=PIXELS,
    network=lambda labels: cnn(PIXELS, labels, ((8,), (16,))),
    shares=(0.6, 0.2, 0.2),
    epochs=6,
    batch_size=8,
    learning_rate=1e-2,
)
"""


@pytest.fixture(scope="module")
def home(new_home):
    home = new_home(own_registry=True)
    (home.settings.root / "mine.py").write_text(RECIPE)
    draw(home.settings.root / "pictures", COLOURS, 60, seed=1)
    return home


def done(home, *arguments):
    answer = home(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def champion(home):
    (number,) = (
        v["number"]
        for v in done(home, "models", "list")
        if v["name"] == "colours" and "champion" in v["aliases"]
    )
    return number


@pytest.fixture(scope="module")
def trained(home):
    return done(home, "train", "mine.py", "--data", "pictures", "--optimise")


def test_a_recipe_of_ones_own_is_trained_and_promoted(trained):
    assert (trained["model"], trained["version"], trained["promoted"]) == ("colours", 1, True)
    assert trained["metrics"]["f1_macro"] >= 0.95
    assert trained["metrics"]["test_images"] == 36
    assert trained["left_out"] == []


def test_its_card_tells_which_faster_engines_were_tried(home, trained):
    told = done(home, "models", "show", "colours", "1")["training"]
    assert told["optimised"] in {"no", *FASTER}
    assert re.match(r"int8: \d+\.\d+ times as fast, \d", told["optimised_tried"])
    assert "macro F1 " in told["optimised_tried"]


def test_its_report_is_a_page_with_pictures_that_stands_on_the_run_too(home, trained):
    folder = home.settings.root / "reports" / "colours" / "1"
    assert trained["report"] == str(folder / "report.html")
    names = {p.name for p in folder.iterdir()}
    assert {"report.html", "evaluation.json", "confusion.png", "curves.png"} <= names
    kept = {p.name for p in home.settings.registry.rglob("report/*")}
    assert names <= kept


def test_evaluate_gives_the_figures_of_the_training_for_the_same_images(home, trained, tmp_path):
    split = next(home.settings.registry.rglob("split.csv")).read_text().splitlines()[1:]
    for line in split:
        path, label, side = line.split(",")[:3]
        if side == "test":
            (tmp_path / label).mkdir(exist_ok=True)
            os.link(path, tmp_path / label / os.path.basename(path))  # noqa: PTH119
    figures = done(home, "evaluate", "colours@champion", "--data", tmp_path)
    assert figures["images"] == 36
    assert figures["accuracy"] == pytest.approx(trained["metrics"]["accuracy"])
    assert figures["macro"]["f1"] == pytest.approx(trained["metrics"]["f1_macro"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
def test_the_other_modes_of_elephas_learn_too(home, trained, mode):
    told = done(home, "train", "mine.py", "--data", "pictures", "--mode", mode, "--name", mode,
                "--epochs", "8")  # fmt: skip
    assert told["metrics"]["f1_macro"] >= 0.8


@pytest.mark.slow
def test_a_refresh_with_wrong_labels_is_refused(home, trained):
    wrong = {"red": COLOURS["green"], "green": COLOURS["blue"], "blue": COLOURS["red"]}
    draw(home.settings.root / "wrong", wrong, 60, seed=2)
    told = done(home, "refresh", "colours", "--data", "wrong", "--epochs", "6")
    assert told["promoted"] is False
    assert "against" in told["reason"]
    assert champion(home) == 1
    shown = done(home, "models", "show", "colours", str(told["version"]))
    assert shown["decision"] == f"refused: {told['reason']}"


def test_too_few_new_images_are_left_for_later(home, trained):
    draw(home.settings.root / "few", COLOURS, 2, seed=3)
    answer = home("refresh", "colours", "--data", "few", "--when-new", "7")
    assert answer.returncode == 0
    assert "fewer than 7 new labelled images" in answer.stderr
    assert champion(home) == 1


@pytest.mark.slow
def test_a_new_class_extends_the_head_and_the_old_ones_are_kept(home, trained):
    before = champion(home)
    draw(home.settings.root / "more", YELLOW, 60, seed=4)
    told = done(home, "refresh", "colours", "--data", "more", "--epochs", "16")
    assert told["promoted"] is True, told
    assert champion(home) == told["version"] > before
    draw(home.settings.root / "unseen", COLOURS | YELLOW, 10, seed=5)
    figures = done(home, "evaluate", "colours", "--data", "unseen")
    assert [c["label"] for c in figures["classes"]] == ["blue", "green", "red", "yellow"]
    assert figures["accuracy"] >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("step", ["decoding", "training", "exporting", "evaluating", "registering"])
def test_a_refresh_that_is_killed_leaves_the_registry_whole(home, trained, step):
    before = champion(home)
    folder = draw(home.settings.root / f"new-{step}", COLOURS, 12, seed=len(step))
    command = [sys.executable, "-m", "sightstream", "refresh", "colours", "--data", folder,
               "--home", home.settings.root]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stderr:
        if step in line:
            time.sleep(0.3)
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert champion(home) >= before
    picture = next((home.settings.root / "pictures" / "red").iterdir())
    (said,) = done(home, "predict", picture, "--model", "colours")
    assert said["top"][0]["label"] == "red"
