"""The commands on labels and on versions, on real tables and a real registry, without a network."""

import getpass
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from sightstream.cli.main import app
from sightstream.config import Settings
from sightstream.errors import ConfigError, InputError, ModelDamagedError, ModelNotFoundError
from sightstream.images.decode import Preprocessing
from sightstream.io import disk
from sightstream.models.registry import Registry
from sightstream.models.version import CARD_FILE, Card, sha256
from sightstream.tables import predictions
from sightstream.tables.labels import Labels
from sightstream.tables.schema import ROW
from streaming.folder import stuck

PETS = Card(
    labels=("cat", "dog", "[red]cow"),
    preprocessing=Preprocessing(16, 16),
    metrics={"accuracy": 0.9, "f1_macro": 0.8},
    training={"recipe": "pets", "epochs": 5, "seed": 0, "augment": ["flip"]},
    onnx_difference=2e-7,
)
LATER = replace(
    PETS,
    labels=("cat", "[red]cow", "red panda"),
    preprocessing=Preprocessing(24, 16),
    metrics={"accuracy": 0.925, "ece": 0.05},
    training={"recipe": "pets", "epochs": 8, "seed": 0, "augment": ["flip"], "base": 1},
)


@pytest.fixture(scope="module")
def settings_of_pets(tmp_path_factory):
    """A home whose registry has two versions of a model, which are cards without a network."""
    settings = Settings(home=tmp_path_factory.mktemp("pets"), registry_uri="")
    registry = Registry(settings.registry_address)
    for number, card in enumerate((PETS, LATER), 1):
        files = settings.root / f"files{number}"
        files.mkdir()
        (files / CARD_FILE).write_text(json.dumps(asdict(card)))
        digest = sha256(files / CARD_FILE)
        registry.publish("pets", files, digest, parameters={}, metrics=card.metrics, curves={})
    registry._client.set_registered_model_alias("pets", "champion", "1")
    return settings


@pytest.fixture
def home(settings_of_pets, tmp_path, settings):
    """A home of its own on that registry; its stream saw a, b and c, and rejected x."""
    now = datetime.now(UTC)
    both = {"source": "folder", "date": date(2025, 11, 21), "processed_at": now}
    ok = {"status": "ok", "model": "pets", "label": "cat"} | both
    rows = [{"event_id": event_id} | ok for event_id in "abc"]
    rows.append({"event_id": "x", "status": "rejected"} | both)
    table = pa.Table.from_pylist(rows, ROW)
    predictions.Predictions(settings.predictions).append(table, "app", 0)
    shutil.copytree(settings_of_pets.registry, settings.registry)
    return settings


@pytest.fixture
def run(home):
    def command(*arguments):
        """Runs a command here, which saves seconds of imports, and raises what ends it."""
        done = CliRunner().invoke(app, [*map(str, arguments), "--home", str(home.home)])
        if done.exception:
            raise done.exception
        return done

    return command


def held(home):
    current = Labels(home.labels).current()
    return dict(zip(current["event_id"].to_pylist(), current["label"].to_pylist(), strict=True))


# label


def test_a_label_is_written_and_said(run, home):
    done = run("label", "a", "dog")
    assert held(home) == {"a": "dog"}
    assert (done.stdout, done.stderr) == ("", "a is 'dog' now\n")


def test_a_label_that_the_model_does_not_know_is_written_and_told(run, home):
    done = run("label", "a", "[red]panda")
    assert held(home) == {"a": "[red]panda"}
    assert done.stderr.startswith(
        "'[red]panda' is a label that pets does not know yet; refresh will extend it\n"
    )


@pytest.mark.parametrize("label", ["cat", "dog", "[red]cow"])
def test_of_a_label_that_the_model_knows_nothing_is_told(run, label):
    assert "does not know" not in run("label", "a", label).stderr


def test_of_a_rejected_image_no_model_is_told(run, home):
    assert "does not know" not in run("label", "x", "unicorn").stderr
    assert held(home) == {"x": "unicorn"}


def test_labelling_needs_no_registry(run, home):
    (home.registry / "mlflow.db").unlink()
    assert run("label", "a", "unicorn").stderr == "a is 'unicorn' now\n"
    assert not (home.registry / "mlflow.db").exists()


def test_what_was_written_is_printed_as_json(run):
    (row,) = json.loads(run("label", "a", "dog", "--json").stdout)
    assert (row["event_id"], row["label"]) == ("a", "dog")
    assert row["labelled_by"] == getpass.getuser()
    assert datetime.fromisoformat(row["labelled_at"]) <= datetime.now(UTC)


def test_undo_brings_back_the_label_before(run, home):
    run("label", "a", "dog")
    run("label", "a", "cat")
    assert run("label", "a", "--undo").stderr == "a is 'dog' now\n"
    assert held(home) == {"a": "dog"}


def test_undo_of_the_only_label_leaves_none(run, home):
    run("label", "a", "dog")
    (row,) = json.loads(run("label", "a", "--undo", "--json").stdout)
    assert (row["event_id"], row["label"]) == ("a", None)
    assert held(home) == {}


def test_a_file_of_labels_is_one_commit(run, home, tmp_path):
    (tmp_path / "labels.csv").write_text("event_id,label\na,dog\nb,unicorn\nc,unicorn\n")
    done = run("label", "--csv", tmp_path / "labels.csv")
    assert held(home) == {"a": "dog", "b": "unicorn", "c": "unicorn"}
    assert len(list((home.labels / "_delta_log").glob("*.json"))) == 2
    assert done.stderr == (
        "'unicorn' is a label that pets does not know yet; refresh will extend it\n"
        "3 labels were written\n"
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nobody,dog", "there is no event 'nobody' in the predictions; see them with: sightstr"),
        ("b,.dog", "'.dog' cannot be a label, since it begins with a dot"),
    ],
)
def test_a_file_with_a_wrong_line_is_refused_whole_and_the_line_named(
    run, home, tmp_path, line, why
):
    (tmp_path / "labels.csv").write_text(f"a,dog\n\n{line}\n")
    with pytest.raises(InputError) as told:
        run("label", "--csv", tmp_path / "labels.csv")
    assert str(told.value).startswith(f"{tmp_path / 'labels.csv'} line 3: {why}")
    assert not home.labels.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a",),
        ("--undo",),
        ("a", "dog", "--undo"),
        ("a", "--csv", "x.csv"),
        ("--csv", "x.csv", "--undo"),
    ],
)
def test_half_a_label_is_refused(run, arguments):
    with pytest.raises(InputError, match="give an event id and a label"):
        run("label", *arguments)


def test_an_unknown_event_ends_in_one_line_and_code_2(home):
    done = subprocess.run(
        [sys.executable, "-m", "sightstream", "label", "nobody", "cat", "--home", str(home.home)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sightstream: there is no event 'nobody' in the predictions; see them with: "
        'sightstream query "select event_id, original_name, label from predictions"\n'
    )


def test_before_there_are_predictions_a_label_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="start the stream with: sightstream run"):
        raise (
            CliRunner()
            .invoke(app, ["label", "a", "cat", "--home", str(tmp_path / "empty")])
            .exception
        )


# query


@pytest.mark.parametrize("shown", ["table", "csv", "json"])
def test_a_date_that_python_does_not_know_is_a_sentence(run, shown):
    with pytest.raises(InputError, match="cast it: ::varchar"):
        run("query", "SELECT DATE '20000-01-01' AS day", "--format", shown)
    assert "20000" in run("query", "SELECT (DATE '20000-01-01')::VARCHAR", "--format", shown).stdout


def test_a_query_knows_the_labels(run):
    assert json.loads(run("query", "FROM labels", "--json").stdout) == []
    run("label", "a", "dog")
    sql = (
        "SELECT event_id, p.label, l.label AS truth "
        "FROM predictions p JOIN labels l USING (event_id)"
    )
    assert run("query", sql, "--format", "csv").stdout == "event_id,label,truth\na,cat,dog\n"


def test_names_of_columns_are_no_markup(run):
    assert "[red]x" in run("query", 'SELECT 1 AS "[red]x"').stdout


# models


def cells(done):
    """A table's rows as they are seen."""
    lines = [line for line in done.stdout.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in line[1:-1].replace("┃", "│").split("│")] for line in lines]


def test_diff_compares_champion_and_challenger(run):
    assert cells(run("models", "diff", "pets")) == [
        ["metric", "pets 1 champion", "pets 2 challenger", "difference"],
        ["accuracy", "0.9", "0.925", "+0.025"],
        ["f1_macro", "0.8", "", ""],
        ["ece", "", "0.05", ""],
        ["setting", "pets 1 champion", "pets 2 challenger"],
        ["height", "16", "24"],
        ["epochs", "5", "8"],
        ["base", "", "1"],
    ]


def test_diff_says_which_labels_came_and_went(run):
    lines = run("models", "diff", "pets", "1", "2").stdout.splitlines()
    assert lines[-2:] == ["labels added: red panda", "labels removed: dog"]


def test_diff_takes_numbers_and_aliases_in_any_order(run):
    found = json.loads(run("models", "diff", "pets", "challenger", "1", "--json").stdout)
    assert (found["model"], found["a"], found["b"]) == ("pets", 2, 1)
    assert found["metrics"]["accuracy"] == {
        "a": 0.925, "b": 0.9, "difference": pytest.approx(-0.025),
    }  # fmt: skip
    assert found["metrics"]["ece"] == {"a": 0.05, "b": None, "difference": None}
    assert found["settings"] == {
        "height": {"a": 24, "b": 16}, "epochs": {"a": 8, "b": 5}, "base": {"a": 1, "b": None},
    }  # fmt: skip
    assert found["labels"] == {"added": ["dog"], "removed": ["red panda"]}


def test_diff_of_a_version_with_itself_shows_metrics_only(run):
    done = run("models", "diff", "pets", "1", "1")
    assert [row[-1] for row in cells(done)] == ["difference", "0", "0"]
    assert "labels" not in done.stdout


def test_diff_of_an_unknown_version_is_refused(run):
    with pytest.raises(ModelNotFoundError, match="has the version '9'"):
        run("models", "diff", "pets", "1", "9")


def test_diff_of_a_damaged_version_is_refused(run, home):
    registry = Registry(home.registry_address)
    (registry.version("pets", 2).folder / CARD_FILE).write_text("{}")
    with pytest.raises(ModelDamagedError, match=r"version\.json is not the file"):
        run("models", "diff", "pets")


def test_show_tells_all_that_is_on_the_card(run):
    shown = cells(run("models", "show", "pets"))
    for row in (
        ["aliases", "", "champion"],
        ["labels", "", "cat, dog, [red]cow"],
        ["metrics", "accuracy", "0.9"],
        ["", "f1_macro", "0.8"],
        ["preprocessing", "height", "16"],
        ["", "epochs", "5"],
        ["", "augment", '["flip"]'],
        ["onnx_difference", "", "2e-07"],
    ):
        assert row in shown
    assert {"created", "run_id", "source", "digest", "checksums"} <= {row[0] for row in shown}


# What the state of a home tells


def test_status_tells_what_is_stuck_in_the_inbox(run, home):
    assert json.loads(run("status", "--json").stdout)["stuck"] == {"count": 0, "named": {}}
    assert "0 images behind; nothing is stuck" in run("status").stdout
    home.inbox.mkdir(exist_ok=True)
    for name in ("one.jpg", "two.jpg", "Thumbs.db"):
        (home.inbox / name).touch()
    assert json.loads(run("status", "--json").stdout)["inbox"] == 2
    assert "0 images behind, and 2 files in the inbox; nothing" in run("status").stdout
    path, why = os.fsencode(home.inbox / "x.jpg"), "cannot be moved: Operation not permitted"
    stuck.write(home.stuck, os.fsencode(home.inbox), {path: why})
    found = json.loads(run("status", "--json").stdout)["stuck"]
    assert found == {"count": 1, "named": {"x.jpg": why}}
    assert f"1 file(s) stay in the inbox, such as x.jpg: it {why}" in run("status").stdout


def test_status_tells_that_the_starter_is_trained(run, home):
    with disk.locked(home.root / "training"):
        assert "model  training the starter" in run("status").stdout


def test_status_tells_that_the_inbox_is_not_mounted(run, home):
    home.root.mkdir(exist_ok=True)
    home.inbox.symlink_to("/nowhere/nas")
    why = "is a link to /nowhere/nas, which is not there: mount it"
    assert f"the inbox {home.inbox} {why}" in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["stuck"]["named"] == {str(home.inbox): why}


def test_status_tells_that_a_query_is_started_again_while_a_stream_runs(run, home):
    home.stream.parent.mkdir(exist_ok=True)
    why = {"count": 7, "why": "the disk is full"}
    home.stream.write_text(json.dumps({"restarts": {"folder": why}}))
    assert "the disk is full" not in run("status").stdout
    with disk.held(home.root):
        told = "query folder  failed and was started again 7 times since its last micro-batch: the"
        assert told in run("status").stdout
        assert json.loads(run("status", "--json").stdout)["restarts"] == {"folder": why}


def test_predict_takes_a_version_in_the_name_of_its_model(run, home, tmp_path):
    picture = tmp_path / "x.png"
    picture.touch()
    with pytest.raises(ModelNotFoundError, match=r"'pets' has the version '9' .*models list$"):
        run("predict", picture, "--model", "pets@9")
    for named in ("pets@1", "pets@champion"):
        with pytest.raises(ConfigError, match="name two versions"):
            run("predict", picture, "--model", named, "--version", "2")
    with pytest.raises(ModelNotFoundError, match=r"'pts' .*; its models are pets$"):
        run("predict", picture, "--model", "pts")


def test_promote_says_what_it_takes(run):
    with pytest.raises(InputError, match="takes the number of a version, not 'champion'; see the"):
        run("models", "promote", "pets", "champion")


def test_status_of_a_folder_that_is_no_home_says_so(tmp_path, settings):
    (tmp_path / "photos").mkdir()
    done = CliRunner().invoke(app, ["status", "--home", str(tmp_path / "photos")])
    assert isinstance(done.exception, InputError)
    assert f"{tmp_path}/photos is no home folder: it has no inbox, no table" in str(done.exception)
    assert done.exception.exit_code == 2
