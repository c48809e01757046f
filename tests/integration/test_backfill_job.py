"""`sightstream backfill` as a user runs it, with a real Spark and a model that is made at once."""

import fcntl
import json
import os

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sightstream import config
from sightstream.errors import ConfigError, InputError
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from streaming.backfill import files, job, plan
from tests import tiny_model


def rows(path):
    return DeltaTable(path).to_pyarrow_dataset().to_table().to_pylist()


@pytest.fixture
def home(tiny_home, tmp_path):
    """A home whose leaf@2 calls bright what leaf@1 calls grey, and a folder of photos."""
    made = tiny_home()
    tiny_model.register(made.settings, "leaf", tmp_path / "v1")
    tiny_model.challenge(made.settings, "leaf", tmp_path / "v2", means=(128.0, 0.0, 255.0))
    for number, brightness in enumerate((250, 5, 130, 128)):
        tiny_model.photograph(tmp_path / "photos" / "few" / f"{number}.png", brightness)
    (tmp_path / "photos" / "words.txt").write_text("words")
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "photos" / "few" / "0.png")
    return made


def run(home, *arguments):
    done = home("backfill", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_folder_gets_its_rows_once_and_a_second_model_answers_into_a_table_of_its_own(
    home, tmp_path
):
    told = run(home, tmp_path / "photos")
    assert (told["rows"], told["rejected"], told["complete"]) == (6, 2, True)
    assert told["model"] == "leaf@1"
    first = {row["original_name"]: row for row in rows(home.settings.predictions)}
    labels = {name: row["label"] for name, row in first.items()}
    assert labels == {
        "few/0.png": "bright", "few/1.png": "dark", "few/2.png": "grey", "few/3.png": "grey",
        "words.txt": None, "link.png": None,
    }  # fmt: skip
    assert first["words.txt"]["error_code"] == "unsupported_format"
    assert first["link.png"]["error_code"] == "unreadable"
    assert {row["source"] for row in first.values()} == {"backfill"}
    assert not list((home.settings.root / "backfill").glob("*/*"))  # the plan is forgotten

    again = run(home, tmp_path / "photos", "--model", "leaf@2")  # a row of any model is one
    assert (again["images"], again["left_out"]) == (0, {"classified": 6})
    assert len(rows(home.settings.predictions)) == 6

    (tmp_path / "photos" / "few" / "1.png").unlink()
    where = ("--where", "status = 'ok' AND label <> 'bright'")
    told = run(home, "predictions", "--into", "again", "--model", "leaf@2", *where)
    assert (told["rows"], told["left_out"]) == (2, {"gone": 1})
    told = run(home, "predictions", "--into", "again", "--model", "leaf@2")
    assert (told["rows"], told["left_out"]) == (3, {"gone": 1, "classified": 2})
    assert len(rows(home.settings.predictions)) == 6
    second = {row["event_id"]: row for row in rows(home.settings.tables / "again")}
    assert second.keys() <= {row["event_id"] for row in first.values()}
    assert second[first["few/2.png"]["event_id"]]["label"] == "bright"
    assert {row["model_version"] for row in second.values()} == {2}
    joined = home(
        "query", "--format", "csv",
        "select a.label, b.label, count(*) from predictions a join again b using (event_id) "
        "where b.label = 'bright' group by all",
    )  # fmt: skip
    assert joined.stdout.splitlines()[1:] == ["grey,bright,2"], joined.stderr


@pytest.mark.slow
def test_images_in_the_rows_of_a_delta_table_are_classified(home, tmp_path):
    photos = sorted((tmp_path / "photos" / "few").iterdir())
    held = {"content": [*(each.read_bytes() for each in photos), None, b"words"]}
    place = tmp_path / "lake" / "photos"
    write_deltalake(place, pa.table(held | {"day": ["a b", "c"] * 3}), partition_by=["day"])
    told = run(home, place, "--into", tmp_path / "answers")
    assert (told["rows"], told["rejected"]) == (6, 2)
    answered = rows(tmp_path / "answers")
    found = sorted(str(row["label"] or row["error_code"]) for row in answered)
    assert found == ["bright", "dark", "empty", "grey", "grey", "unsupported_format"]
    told = run(home, place, "--into", tmp_path / "answers")
    assert told["left_out"] == {"classified": 6}


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_one_row_and_the_others_are_answered(home, tmp_path):
    tiny_model.register(home.settings, "frail", tmp_path / "v3", fault="eats")
    told = run(home, tmp_path / "photos" / "few", "--model", "frail", "--into", "frail")
    assert told["rows"] == 4
    answered = {row["original_name"]: row for row in rows(home.settings.tables / "frail")}
    assert answered["3.png"]["label"] == "grey"
    assert {answered[f"{number}.png"]["error_code"] for number in range(3)} == {"crashed"}


@pytest.mark.slow
def test_it_works_beside_a_running_stream_and_each_image_gets_one_row(home, tmp_path, until):
    photo, root = tmp_path / "photos" / "few" / "0.png", home.settings.root
    many, burst = tmp_path / "many", home.settings.staging / "burst"
    for folder, count in ((many, 6000), (burst, 2000)):
        folder.mkdir(parents=True)
        for number in range(count):
            os.link(photo, folder / f"{number}.png")
    with home.running():
        burst.rename(home.settings.inbox / "burst")
        told = run(home, many)
        until(lambda: home.count() == 8000)
    assert told["rows"] == 6000
    table = home.table()
    assert len(set(table["event_id"].to_pylist())) == 8000
    sources = table["source"].to_pylist()
    assert (sources.count("backfill"), sources.count("folder")) == (6000, 2000)
    told = run(home, "predictions", "--into", "again", "--where", "source = 'folder'")
    assert (told["rows"], told["rejected"]) == (2000, 0)
    assert root.joinpath("logs", "backfill.log").exists()


def test_one_backfill_at_a_time_writes_into_a_table(home, tmp_path):
    told = home("backfill", tmp_path / "nowhere")
    assert told.returncode == 2
    assert told.stderr.endswith("nowhere is no folder, table or uri of images\n")
    (lock,) = (home.settings.root / "backfill").glob("*.lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = home("backfill", tmp_path / "photos")
    assert told.returncode == 4
    assert "another backfill writes into" in told.stderr


def test_a_plan_that_is_done_is_not_taken_for_one_that_has_begun(settings, tmp_path):
    into = settings.predictions
    made = files.events([files.File("file:///a.png", "a.png", 1, 1)], 1.0)
    held = plan.write(tmp_path / "plan", made, model="leaf@1", source="/", content=None)
    assert job._begun(tmp_path / "plan", into) == held
    table = Predictions(into)
    assert job._begun(tmp_path / "plan", into) == held
    table.append(ROW.empty_table(), held.app_id, held.images)
    assert job._begun(tmp_path / "plan", into) is None


@pytest.fixture
def wish(settings):
    return lambda source, into="predictions": job.wish(settings, str(source), "leaf", into, "")


def test_rows_of_predictions_go_into_another_table_alone(wish, settings):
    with pytest.raises(InputError, match="each image of predictions has a row there"):
        wish("predictions")
    assert wish("predictions", "again").into == str(settings.root / "tables" / "again")
    (settings.tables / "again").mkdir(parents=True)
    with pytest.raises(InputError, match="each image of again has a row there"):
        wish("again", "again")


def test_images_of_the_stream_itself_are_left_to_it(wish, settings):
    for folder in (settings.inbox, settings.images / "2025-11-21"):
        with pytest.raises(InputError, match="get their rows from the stream"):
            wish(folder)
        assert wish(folder, "again").source == str(folder)
    assert wish(settings.root / "images-of-mine").into == settings.predictions


@pytest.mark.parametrize("name", ["Again", "a b", "", "1", "é", "x" * 64])
def test_a_name_that_no_table_can_have_is_refused(wish, name):
    with pytest.raises(ConfigError, match="cannot be the name of a table"):
        wish("photos", name)


@pytest.mark.parametrize("name", ["dead_letters", "labels"])
def test_the_name_of_another_table_is_refused(wish, name):
    with pytest.raises(ConfigError, match=f"{name} is a table that sightstream has already"):
        wish("photos", name)


def test_a_file_is_no_source(settings, tmp_path):
    tiny_model.photograph(tmp_path / "photo.png", 250)
    tiny_model.register(settings, "leaf", tmp_path / "v1")
    wanted = job.wish(settings, str(tmp_path / "photo.png"), "", "predictions", "")
    with pytest.raises(InputError, match=r"photo\.png is a file, and no folder"):
        job.run(settings, wanted, lambda _: None, lambda *_: None)


def test_the_same_folder_by_another_path_is_the_same_source(wish, tmp_path):
    (tmp_path / "photos" / "few").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    asked = [tmp_path / "photos", tmp_path / "photos" / "few" / "..", tmp_path / "link"]
    assert {wish(each, "again").source for each in asked} == {str(tmp_path / "photos")}


def test_an_empty_folder_is_told_and_not_taken_for_done(settings, tmp_path):
    (tmp_path / "empty").mkdir()
    tiny_model.register(settings, "leaf", tmp_path / "v1")
    wanted = job.wish(settings, str(tmp_path / "empty"), "", "predictions", "")
    with pytest.raises(InputError, match="there are no images in"):
        job.run(settings, wanted, lambda _: None, lambda *_: None)
    assert isinstance(settings, config.Settings)
    assert not (settings.root / "predictions").exists()
