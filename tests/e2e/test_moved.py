"""A home that is copied and moved in the middle of a backlog goes on where it is now."""

import json
import shutil
import subprocess

import pytest
from deltalake import DeltaTable

from sightstream.images.store import local_path
from sightstream.models.registry import Registry
from tests.conftest import end_session

IMAGES = 300


def rows(home):
    return DeltaTable(home / "predictions").to_pyarrow_dataset().to_table().to_pylist()


@pytest.mark.slow
def test_a_home_is_moved_in_the_middle_of_a_backlog(new_home, starter, tmp_path, until):
    home = new_home(own_registry=True, images_per_batch=40)
    root = home.settings.root
    with home.running() as process:
        burst = root / "staging" / "burst"
        burst.mkdir(parents=True)
        for number, digit in enumerate(starter.digits[:IMAGES]):
            shutil.copyfile(digit, burst / f"{number}.png")
        burst.rename(root / "inbox" / "burst")
        until(home.count)
        end_session(process)
    done_before = home.count()
    assert 0 < done_before < IMAGES
    copy, moved = tmp_path / "a copy", tmp_path / "elsewhere" / "moved"
    subprocess.run(["cp", "-a", root, copy], check=True)
    for folder in ("images", "registry/artifacts", "inbox"):
        for file in (root / folder).rglob("*.*"):
            if file.is_file():
                file.write_bytes(b"of the original home")
    moved.parent.mkdir()
    copy.rename(moved)

    done = home("run", "--once", "--home", moved, "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    found = rows(moved)
    assert len(found) == len({row["event_id"] for row in found}) == IMAGES
    assert {row["status"] for row in found} == {"ok"}
    assert home.count() == done_before
    waited = [row for row in found if str(moved) in local_path(row["uri"])]
    assert len(waited) == IMAGES - done_before

    checks = json.loads(home("doctor", "--home", moved, "--json").stdout)
    assert [each for each in checks if not each["ok"]] == []
    (answer,) = json.loads(home("predict", starter.digits[0], "--home", moved, "--json").stdout)
    assert answer["status"] == "ok"
    registry = Registry(f"sqlite:///{moved}/registry/mlflow.db")
    assert registry.version("starter").folder.is_relative_to(moved)


def test_a_home_and_its_copy_bring_each_image_into_one_table_once(
    new_home, starter, tmp_path, until
):
    table = tmp_path / "predictions"
    home = new_home(predictions_uri=str(table), images_per_batch=20)
    root, copy = home.settings.root, tmp_path / "copy"

    def drop(root, count, name):
        (root / "staging").mkdir(exist_ok=True)
        for number, digit in enumerate(starter.digits[:count]):
            shutil.copyfile(digit, root / "staging" / "one.png")
            (root / "staging" / "one.png").rename(root / "inbox" / f"{name} {number}.png")

    with home.running() as process:
        drop(root, 10, "before")
        until(lambda: home.count() == 10)
        drop(root, 150, "waits")
        until(lambda: len(list((root / "inbox").iterdir())) == 0)
        end_session(process)
    subprocess.run(["cp", "-r", root, copy], check=True)
    drop(root, 40, "of the first")
    drop(copy, 70, "of the copy")
    with home.running():
        done = home("run", "--once", "--home", copy, "--metrics-port", "0")
        assert done.returncode == 0, done.stderr
        drop(root, 5, "at last, of the first")
        drop(copy, 5, "at last, of the copy")
        done = home("run", "--once", "--home", copy, "--metrics-port", "0")
        assert done.returncode == 0, done.stderr
        until(lambda: home.count() >= 280)
    found = DeltaTable(table).to_pyarrow_table(columns=["event_id", "original_name"])
    assert found.num_rows == len(set(found["event_id"].to_pylist())) == 280
    assert len(set(found["original_name"].to_pylist())) == 280
