"""sightstream.tables.agreement: two versions on the images that both answered for."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from streamlit.testing.v1 import AppTest

import web
from sightstream.errors import InputError
from sightstream.tables.agreement import agreement
from sightstream.tables.labels import Labels
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from tests import tiny_model

APP = Path(web.__file__).with_name("app.py")

MADE = datetime.now(UTC)
"""When the versions were made; the rows come an hour later."""

NOW = MADE + timedelta(hours=1)


def row(event_id, first, second, third=None, *, version=1):
    """A row of version 1, or of 2 as a canary; the other version and a third model beside it."""

    def other(model, number, label):
        return {"model": model, "version": number, "alias": "x", "label": label, "score": 0.5,
                "top": None}  # fmt: skip

    also = [other("leaf", 3 - version, second), other("pests", 2, third)]
    return {
        "event_id": event_id, "source": "folder", "status": "ok", "processed_at": NOW,
        "date": NOW.date(), "event_time": NOW + timedelta(seconds=int(event_id)), "label": first,
        "score": 0.75, "model": "leaf", "model_version": version, "also": also,
        "original_name": f"{event_id}.png",
    }  # fmt: skip


ROWS = [
    row("1", "oak", "oak", "oak"),
    row("2", "oak", "elm"),
    row("3", "elm", "elm", version=2),
    row("4", "elm", "oak", version=2),  # version 1 said oak, and version 2, the canary, elm
    row("5", "oak", None),
    {**row("6", "oak", "elm"), "also": None},
    {**row("7", None, None), "status": "rejected", "also": None},
]


@pytest.fixture
def path(tmp_path):
    made = Predictions(str(tmp_path / "predictions"))
    made.append(pa.Table.from_pylist(ROWS, ROW), "app", 0)
    return made.path


def test_the_images_that_both_answered_for_count_whoever_was_first(path):
    found = agreement(path, "leaf", (1, 2), since=MADE)
    assert (found.images, found.agreed, found.share) == (4, 2, 0.5)
    by = {each["label"]: (each["images"], each["agreed"]) for each in found.classes}
    assert by == {"oak": (3, 1), "elm": (1, 1)}
    differ = [(each["event_id"], each["a"], each["b"]) for each in found.examples]
    assert differ == [("4", "oak", "elm"), ("2", "oak", "elm")]


def test_it_is_the_same_from_the_other_side(path):
    found = agreement(path, "leaf", (2, 1), since=MADE)
    assert (found.images, found.agreed) == (4, 2)
    assert {(each["a"], each["b"]) for each in found.examples} == {("elm", "oak")}


def test_labels_that_people_gave_tell_who_is_right(path, tmp_path):
    Labels(tmp_path / "labels").put({"2": "elm", "4": "elm"}, "ann")
    found = agreement(path, "leaf", (1, 2), since=MADE, labels=tmp_path / "labels")
    assert (found.labelled, found.right_a, found.right_b) == (2, 0, 2)


def test_rows_of_before_the_versions_are_those_of_others(path):
    found = agreement(path, "leaf", (1, 2), since=NOW + timedelta(seconds=1))
    assert (found.images, found.classes, found.examples) == (0, [], [])


def test_versions_that_never_met_share_no_image(path):
    found = agreement(path, "leaf", (1, 9), since=MADE)
    assert (found.images, found.share, found.classes, found.examples) == (0, 0.0, [], [])


def answer(event_id, label, score, *, version=2, **more):
    """A row of a table of a backfill."""
    return {**row(event_id, label, None, version=version), "also": None, "score": score, **more}


@pytest.fixture
def table(tmp_path):
    """Answers of version 2 to images of the stream, and of both versions to one of a folder."""
    made = Predictions(str(tmp_path / "tables" / "again"))
    told = [
        answer("6", "elm", 0.5), answer("1", "elm", 0.9), answer("5", "oak", 0.9),
        answer("8", "oak", 0.6, version=1, source="backfill"), answer("8", "ash", 0.9),
        {**answer("7", None, None), "status": "rejected"}, answer("9", "oak", 0.5),
    ]  # fmt: skip
    made.append(pa.Table.from_pylist(told, ROW), "app", 0)
    return made.path


def test_answers_of_a_backfill_count_beside_those_of_the_stream(path, table):
    found = agreement(path, "leaf", (1, 2), since=MADE, table=table)
    matrix = {(each["a"], each["b"]): each["images"] for each in found.matrix}
    # Of image 1, for which version 2 answered twice, the answer in that table counts.
    assert matrix == {("oak", "oak"): 1, ("oak", "elm"): 4, ("oak", "ash"): 1, ("elm", "elm"): 1}
    assert (found.images, found.agreed) == (7, 2)
    assert {each["event_id"] for each in found.examples} >= {"2", "4", "6", "8"}


def test_the_images_on_which_both_are_the_surest_come_first(path, table):
    found = agreement(path, "leaf", (1, 2), since=MADE, table=table, examples=2)
    assert len(found.examples) == 2
    sums = [each["score_a"] + each["score_b"] for each in found.examples]
    assert sums == sorted(sums, reverse=True)
    assert sums[0] >= 1.5


def test_a_table_without_other_answers_says_what_to_do(tmp_path):
    first = pa.schema(field for field in ROW if field.name != "also")
    path = str(tmp_path / "old")
    DeltaTable.create(path, first, partition_by=["date"])
    with pytest.raises(InputError, match="sightstream run --shadow leaf@challenger"):
        agreement(path, "leaf", (1, 2), since=MADE)


class TestHome:
    """A home with both versions and these rows, as its commands and its page see it."""

    @pytest.fixture
    def home(self, tiny_home, tmp_path):
        home = tiny_home(model="leaf")
        tiny_model.register(home.settings, "leaf", tmp_path / "one")
        tiny_model.challenge(home.settings, "leaf", tmp_path / "two")
        Predictions(home.settings.predictions).append(pa.Table.from_pylist(ROWS, ROW), "app", 0)
        return home

    def test_the_command_tells_on_how_many_images_they_agreed(self, home):
        done = home("models", "diff", "leaf", "--live", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["a"], found["b"], found["images"], found["share"]) == (1, 2, 4, 0.5)
        shown = home("models", "diff", "leaf", "--live").stdout
        assert "versions 1 and 2 of leaf agreed on 2 of 4 images" in shown
        assert "4.png" in shown

    def test_the_command_compares_with_a_table_and_draws_a_page(self, home, table):
        named = home.settings.tables / "again"
        named.parent.mkdir()
        shutil.copytree(table, named)
        done = home("models", "diff", "leaf", "1", "2", "--table", "again", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        page = Path(found["page"]).read_text()
        assert page.count("<figure>") == len(found["examples"]) > 0
        shown = home("models", "diff", "leaf", "1", "2", "--table", "again")
        assert f"agreed on {found['agreed']} of {found['images']} images" in shown.stdout
        assert "2: ash" in shown.stdout
        assert f"the pictures: {found['page']}" in shown.stderr
        refused = home("models", "diff", "leaf", "1", "2", "--table", "nope")
        assert refused.returncode == 2
        assert "there is no table 'nope'" in refused.stderr
        assert "it has: again" in refused.stderr

    def test_the_page_shows_it_beside_the_figures(self, home, monkeypatch):
        monkeypatch.setenv("SIGHTSTREAM_HOME", str(home.settings.root))
        seen = AppTest.from_file(str(APP), default_timeout=60).run()
        seen = seen.switch_page("models.py").run()
        assert not seen.exception
        assert "On the stream's images" in [each.value for each in seen.subheader]
        metrics = {each.label: each.value for each in seen.metric}
        assert (metrics["Agreement"], metrics["Images of 7 days"]) == ("50.0%", "4")
