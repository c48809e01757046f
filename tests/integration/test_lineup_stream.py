"""`sightstream run` with several models: a row for each image, with what each of them answered."""

import shutil

import pytest

from sightstream.images.decode import Preprocessing
from sightstream.models.registry import Registry
from tests import tiny_model

TURNED = (0.0, 255.0, 128.0)
LARGE = Preprocessing(16, 16)


@pytest.fixture
def home(tiny_home):
    return tiny_home(model="leaf", shadow="leaf@challenger", metrics_port=0)


@pytest.fixture
def versions(home, tmp_path):
    tiny_model.register(home.settings, "leaf", tmp_path / "leaf")
    tiny_model.challenge(home.settings, "leaf", tmp_path / "challenger", means=TURNED)
    tiny_model.register(
        home.settings, "pests", tmp_path / "pests", labels=("mite", "aphid"),
        preprocessing=LARGE, means=(255.0, 0.0),
    )  # fmt: skip


def drop(home, count):
    """Drops bright and dark images in turn, and one that is none."""
    inbox = home.settings.inbox
    for number in range(count):
        tiny_model.photograph(inbox / f"{number:04d}.png", 250 if number % 2 else 5)
    (inbox / "torn.png").write_bytes(b"no image")


def others(row):
    return [(o["model"], o["version"], o["alias"], o["label"]) for o in row["also"] or ()]


def test_each_row_has_what_each_model_answered(home, versions):
    drop(home, 100)
    done = home("run", "--once", "--also", "pests")
    assert done.returncode == 0, done.stderr
    rows = home.table().to_pylist()
    assert len(rows) == 101
    for row in rows:
        if row["original_name"] == "torn.png":
            assert (row["status"], row["also"]) == ("rejected", None)
            continue
        bright = int(row["original_name"][:4]) % 2
        assert row["label"] == ("bright" if bright else "dark")
        assert others(row) == [
            ("leaf", 2, "challenger", "dark" if bright else "bright"),
            ("pests", 1, "champion", "mite" if bright else "aphid"),
        ]
        assert [each["top"][0]["label"] for each in row["also"]] == [o[3] for o in others(row)]


def test_a_canary_answers_for_its_share_and_the_row_says_so(home, versions):
    drop(home, 100)
    done = home("run", "--once", "--canary", "30%")
    assert done.returncode == 0, done.stderr
    rows = [row for row in home.table().to_pylist() if row["status"] == "ok"]
    by = {number: [row for row in rows if row["model_version"] == number] for number in (1, 2)}
    assert 10 <= len(by[2]) <= 50
    assert len(by[1]) + len(by[2]) == 100
    for row in rows:
        bright = bool(int(row["original_name"][:4]) % 2)
        canary = row["model_version"] == 2
        assert (row["label"] == "bright") == (bright != canary)
        (other,) = row["also"]
        assert other["alias"] == ("champion" if canary else "challenger")
        assert other["version"] == 3 - row["model_version"]
        assert (other["label"] == "bright") == (bright == canary)


@pytest.mark.parametrize("fault", ["raises", "hangs", "eats"])
def test_a_faulty_shadow_costs_no_row(home, tmp_path, fault):
    tiny_model.register(home.settings, "leaf", tmp_path / "leaf")
    tiny_model.challenge(home.settings, "leaf", tmp_path / "challenger", fault=fault)
    drop(home, 60)
    done = home("run", "--once")
    assert done.returncode == 0, done.stderr
    rows = home.table().to_pylist()
    assert sorted(row["label"] or "" for row in rows) == ["", *["bright"] * 30, *["dark"] * 30]
    for row in rows:
        assert row["error_code"] != "crashed"
        if row["status"] == "ok":
            assert others(row) == [("leaf", 2, "challenger", None)]


def test_a_shadow_that_is_not_there_yet_is_waited_for(home, tmp_path):
    tiny_model.register(home.settings, "leaf", tmp_path / "leaf")
    drop(home, 4)
    assert home("run", "--once").returncode == 0
    assert {str(row["also"]) for row in home.table().to_pylist()} == {"None"}


def test_a_model_that_is_not_registered_is_refused(home, tmp_path):
    tiny_model.register(home.settings, "leaf", tmp_path / "leaf")
    done = home("run", "--once", "--also", "pest")
    assert done.returncode == 5
    assert "no version of 'pest' has the alias 'champion'" in done.stderr


@pytest.mark.parametrize("which", ["leaf", "leaf@champion"])
def test_the_champion_is_no_shadow_of_itself(home, versions, which):
    done = home("run", "--once", "--shadow", which)
    assert done.returncode == 2
    assert f"{which} answers first anyway" in done.stderr
    assert "leaf@challenger" in done.stderr


def test_a_shadow_that_is_damaged_costs_no_row(home, versions):
    registry = Registry(home.settings.registry_address)
    files = registry.version("leaf", "challenger").folder
    (files / "model.onnx").write_bytes(b"damaged")
    drop(home, 4)
    done = home("run", "--once")
    assert done.returncode == 0, done.stderr
    assert {str(row["also"]) for row in home.table().to_pylist()} == {"None"}
    shutil.rmtree(files)
