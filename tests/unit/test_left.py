"""What `run` leaves in the inbox, or drops into it."""

import json

import pyarrow as pa
import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.io.folder import BUSY
from sightstream.tables import predictions
from streaming.commands import _drop_samples, tell_away, tell_left
from streaming.folder import stuck
from streaming.folder.stuck import NAMED

DENIED = "cannot be read: Permission denied"


@pytest.mark.parametrize("as_json", [False, True])
def test_each_is_named_with_its_reason(capsys, as_json):
    tell_left({"a\x1b.jpg": BUSY, "b.jpg": BUSY}, as_json=as_json)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"{name} stays in the inbox: it {BUSY}" for name in ("a\\x1b.jpg", "b.jpg")
    ]
    rows = [json.loads(line) for line in said.out.splitlines()]
    names = ["a\x1b.jpg", "b.jpg"] if as_json else []
    assert [row["original_name"] for row in rows] == names
    assert {(row["status"], row["error_detail"]) for row in rows} <= {("left", f"It {BUSY}.")}


def test_what_a_person_must_mend_is_an_error(capsys):
    with pytest.raises(EnvironmentUnfitError, match=r"^1 file.* could not be taken; let the user"):
        tell_left({"a.jpg": BUSY, "b.jpg": DENIED}, as_json=False)
    assert f"b.jpg stays in the inbox: it {DENIED}" in capsys.readouterr().err


def test_of_many_some_are_named_and_all_are_in_json(capsys):
    tell_left(dict.fromkeys(map(str, range(NAMED + 3)), BUSY), as_json=True)
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == NAMED + 3
    assert said.err.splitlines()[NAMED:] == ["3 more stay in the inbox"]


def test_an_inbox_that_is_not_there_is_named(capsys):
    with pytest.raises(EnvironmentUnfitError):
        tell_left({"/home/inbox": "is a link to /nas, which is not there: mount it"}, as_json=False)
    said = capsys.readouterr().err
    assert said == "the inbox /home/inbox is a link to /nas, which is not there: mount it\n"


@pytest.mark.parametrize("rows", [0, 1])
def test_samples_are_dropped_into_an_empty_table_alone(settings, monkeypatch, rows):
    samples = settings.root / "starter/samples"
    samples.mkdir(parents=True)
    settings.inbox.mkdir()
    (samples / "7.png").touch()
    monkeypatch.setattr(predictions, "latest", lambda *_: pa.table({"event_id": ["x"] * rows}))
    _drop_samples(settings, "starter")
    assert (settings.inbox / "samples/7.png").exists() == (rows == 0)


def test_a_bucket_that_went_away_is_told_as_one():
    with pytest.raises(EnvironmentUnfitError) as error:
        tell_left({"s3://photos/in/": "cannot be reached: SlowDown: later"}, as_json=False)
    assert str(error.value) == (
        "the inbox s3://photos/in/ cannot be reached: SlowDown: later; what was found before has "
        "its row, the rest is found by the next run"
    )


def test_a_bucket_that_goes_away_and_comes_back_is_told_once_each(capsys):
    before, away = {}, {"s3://photos/in/": "cannot be reached: SlowDown: later"}
    for now in ({}, away, dict(away), {"s3://photos/in/": "cannot be reached: 503"}, {}, {}):
        before = tell_away(now, before)
    assert capsys.readouterr().err.splitlines() == [
        "the inbox s3://photos/in/ cannot be reached: SlowDown: later",
        "the inbox s3://photos/in/ answers again",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "[" * 200_000, "\0" * 99, '{"count": "1"}', '{"count": true}', '{"count": 1e400}',
     '{"count": 1, "named": ["a"]}', '{"count": 1, "named": {"a": 3}}',
     '{"count": 1, "named": null}'],
)  # fmt: skip
def test_a_damaged_note_of_what_is_stuck_names_nothing(tmp_path, text):
    (tmp_path / "stuck.json").write_text(text)
    assert stuck.read(tmp_path / "stuck.json") == stuck.Stuck()
