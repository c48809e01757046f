"""`sightstream run` as its user sees it: images into the inbox, rows out of the table."""

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import get_args

import psutil
import pytest

from sightstream.images.limits import ErrorCode
from sightstream.models.registry import Registry
from sightstream.runtime import spark

BAD_IMAGES = Path(__file__).parents[2].parent / "shared" / "data" / "badimages"

COLUMNS = [
    "event_id", "source", "uri", "original_name", "event_time", "processed_at", "status",
    "error_code", "error_detail", "label", "score", "top", "model", "model_version", "format",
    "width", "height", "bytes", "decode_ms", "predict_ms", "batch_id", "date", "also", "frame",
]  # fmt: skip


class TestOnce:
    """What `run --once` makes of 200 digits that `drop` brought, and how it can be asked."""

    @pytest.fixture(scope="class")
    def digits(self, starter, tmp_path_factory):
        folder = tmp_path_factory.mktemp("drop") / "two hundred"
        for digit in starter.digits[::9][:198]:
            target = folder / digit.parent.name / digit.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(digit, target)
        for digit in starter.digits[1:3]:
            shutil.copyfile(digit, folder / f"at the top {digit.name}")
        return folder

    @pytest.fixture(scope="class")
    def home(self, new_home):
        return new_home()

    @pytest.fixture(scope="class")
    def dropped(self, home, digits):
        return home("drop", digits, "--home", home.settings.root)

    @pytest.fixture(scope="class")
    def once(self, home, dropped):
        return home("run", "--once", "--home", home.settings.root, "--metrics-port", "0")

    @pytest.fixture(scope="class")
    def rows(self, home, once):
        return home.table()

    @pytest.fixture(scope="class")
    def ask(self, home, once):
        def query(sql):
            done = home("query", sql, "--format", "json")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        return query

    def test_drop_says_how_many_it_brought(self, dropped):
        assert dropped.returncode == 0
        assert "200 images are in" in dropped.stderr

    def test_it_ends_well(self, once):
        assert once.returncode == 0, once.stderr
        assert "200 images taken" in once.stderr

    def test_spark_and_tensorflow_do_not_chatter(self, once):
        assert len(once.stdout.splitlines()) == 200
        assert not [word for word in ("WARN", "INFO", "Warning", "py4j") if word in once.stderr]

    def test_each_image_has_one_row(self, rows, digits):
        below = digits.parent
        names = {str(p.relative_to(below)) for p in digits.rglob("*") if p.is_file()}
        assert rows.num_rows == 200
        assert set(rows["original_name"].to_pylist()) == names
        assert len(set(rows["event_id"].to_pylist())) == 200

    def test_the_columns_are_the_documented_ones(self, rows):
        assert rows.column_names == COLUMNS

    def test_the_rows_say_what_was_read(self, rows):
        for row in rows.to_pylist():
            assert (row["status"], row["source"], row["format"]) == ("ok", "folder", "PNG")
            assert (row["width"], row["height"]) == (64, 64)
            assert (row["model"], row["model_version"]) == ("starter", 1)
            assert row["error_code"] is row["error_detail"] is None
            image = Path(row["uri"].removeprefix("file://"))
            assert image.stat().st_size == row["bytes"]
            assert row["event_time"] <= row["processed_at"]
            assert row["date"] == row["event_time"].date()
            assert row["top"][0] == {"label": row["label"], "score": row["score"]}
            assert len(row["top"]) == 3

    def test_the_labels_are_mostly_right(self, rows):
        truth = [
            Path(n).name.removeprefix("at the top ")[0] for n in rows["original_name"].to_pylist()
        ]
        right = sum(a == b for a, b in zip(truth, rows["label"].to_pylist(), strict=True))
        assert right >= 194

    def test_predict_gives_the_same_answers(self, home, rows, digits):
        done = home("predict", digits, "--top", "3", "--json")
        assert done.returncode == 0, done.stderr
        answers = {
            str(Path(each["path"]).relative_to(digits.parent)): each
            for each in json.loads(done.stdout)
        }
        assert len(answers) == 200
        for row in rows.to_pylist():
            answer = answers[row["original_name"]]
            assert (answer["model"], answer["model_version"]) == ("starter", 1)
            assert [t["label"] for t in answer["top"]] == [t["label"] for t in row["top"]]
            scores = [t["score"] for t in row["top"]]
            assert [t["score"] for t in answer["top"]] == pytest.approx(scores, rel=0, abs=1e-6)

    def test_query_answers_over_both_tables(self, ask):
        assert ask("select status, count(*) as n from predictions group by status") == [
            {"status": "ok", "n": 200}
        ]
        assert ask("select count(*) as n from dead_letters") == [{"n": 0}]

    def test_doctor_finds_nothing_to_mend_in_the_home(self, home, once):
        checks = {each["name"]: each for each in json.loads(home("doctor", "--json").stdout)}
        assert checks
        wrong = [each for each in checks.values() if not each["ok"]]
        assert wrong == []

    def test_a_second_run_adds_no_row_and_names_what_it_left(self, home, rows):
        path = home.settings.inbox / "open.png"
        with path.open("wb"):
            done = home("run", "--once", "--json", "--metrics-port", "0")
        path.unlink()
        assert done.returncode == 0, done.stderr
        assert "0 images taken" in done.stderr
        assert home.table().num_rows == rows.num_rows
        assert done.stderr.splitlines()[-1] == (
            "open.png stays in the inbox: it is still being written"
        )
        assert json.loads(done.stdout) == {
            "original_name": "open.png", "status": "left",
            "error_detail": "It is still being written.",
        }  # fmt: skip


class TestLive:
    """One stream that runs all the time, in its own registry; the last test ends it."""

    @pytest.fixture(scope="class")
    def home(self, new_home):
        return new_home(own_registry=True)

    @pytest.fixture(scope="class")
    def run(self, home):
        with home.running() as process:
            yield process

    @pytest.fixture(scope="class")
    def registry(self, home):
        return Registry(home.settings.registry_address)

    @pytest.fixture
    def drop(self, home, starter):
        """Drops a digit and returns its row."""

        def one(name, until):
            whole = home.settings.root / name
            shutil.copyfile(starter.digits[0], whole)
            whole.rename(home.settings.inbox / name)

            def arrived():
                rows = home.table().to_pylist() if home.count() else []
                return [row for row in rows if row["original_name"] == name]

            (row,) = until(arrived, 60)
            return row

        return one

    @pytest.fixture
    def publish(self, registry):
        """Registers the champion's files once more, as another version."""

        def copy():
            first = registry.version("starter", 1)
            return registry.publish(
                "starter", first.folder, first.digest,
                parameters={}, metrics=first.metrics, curves={},
            )  # fmt: skip

        return copy

    def test_its_jvm_has_the_archive_of_classes(self, run):
        (jvm,) = (p for p in psutil.Process(run.pid).children() if p.name() == "java")
        assert str(spark.ARCHIVE) in {each.path for each in jvm.memory_maps()}

    def test_a_second_run_is_refused(self, home, run):
        second = home("run", "--metrics-port", "0")
        assert second.returncode == 4
        assert second.stderr == (
            f"sightstream: process {run.pid} runs on {home.settings.root} already; "
            "stop it, or give another --home\n"
        )
        assert second.stdout == ""

    def test_the_first_run_was_not_harmed_by_that(self, run, drop, until):
        assert drop("after the second run.png", until)["status"] == "ok"
        assert run.poll() is None

    def test_all_metrics_are_there_from_the_start(self, run, figures):
        names = {name for name, *_ in figures(run)}
        assert names >= {
            "sightstream_images_total", "sightstream_predictions_total",
            "sightstream_batches_total", "sightstream_latency_seconds_bucket",
            "sightstream_batch_phase_seconds_bucket", "sightstream_images_behind",
            "sightstream_last_progress_timestamp_seconds", "sightstream_model_version",
            "sightstream_model_reloads_total", "sightstream_query_restarts_total",
        }  # fmt: skip

    @pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="there is no ../shared/data/badimages here")
    def test_bad_images_among_good_ones_each_get_their_row(self, home, run, starter, drop, until):
        bad = sorted(BAD_IMAGES.iterdir())
        good = [(digit, f"good/{digit.name}") for digit in starter.digits[:500]]
        mixed = good + [(file, f"bad/{file.name}") for file in bad]
        mixed.sort(key=lambda each: each[0].name[::-1])
        drop("before the bad ones.png", until)
        before = home.count()
        for folder in ("good", "bad"):
            (home.settings.inbox / folder).mkdir(exist_ok=True)
        for file, name in mixed:
            shutil.copyfile(file, home.settings.inbox / name)
        until(lambda: home.count() >= before + len(mixed), 120)

        assert drop("after the bad ones.png", until)["status"] == "ok"
        rows = home.table().to_pylist()
        assert len(rows) == before + len(mixed) + 1
        found = {row["original_name"]: row for row in rows}
        assert found.keys() >= {name for _, name in mixed}
        assert {found[name]["status"] for _, name in good} == {"ok"}
        rejected = [row for row in rows if row["status"] == "rejected"]
        assert len(rejected) > 50
        assert {row["error_code"] for row in rejected} <= set(get_args(ErrorCode))
        assert all(row["error_detail"] and row["label"] is None for row in rejected)
        assert run.poll() is None

    def test_the_metrics_agree_with_the_table(self, home, run, figures, drop, until):
        drop("counted.png", until)
        until(lambda: figures(run)["sightstream_images_behind",] == 0)
        found, rows = figures(run), home.table().to_pylist()
        images = Counter((row["error_code"] or "ok", row["source"]) for row in rows)
        labels = Counter((row["label"], "starter", "1") for row in rows if row["label"])
        assert +Counter(picked(found, "sightstream_images_total")) == images
        assert +Counter(picked(found, "sightstream_predictions_total")) == labels
        assert found["sightstream_latency_seconds_count", "folder"] == len(rows)
        assert found["sightstream_batches_total",] >= len({row["batch_id"] for row in rows})
        assert found["sightstream_model_version", "starter"] == 1
        assert found["sightstream_query_restarts_total",] == 0

    def test_a_promoted_version_takes_over_without_a_restart(
        self, home, run, publish, figures, drop, until
    ):
        before = drop("before the promotion.png", until)
        version = publish().number
        done = home("models", "promote", "starter", version)
        assert done.returncode == 0, done.stderr
        until(lambda: figures(run)["sightstream_model_reloads_total", "loaded"] == 1)
        after = drop("after the promotion.png", until)
        assert (before["model_version"], after["model_version"]) == (1, version)
        assert before["score"] == pytest.approx(after["score"], abs=1e-6)
        assert figures(run)["sightstream_model_version", "starter"] == version

    def test_a_damaged_champion_leaves_the_one_before_serving(
        self, registry, run, publish, figures, drop, until
    ):
        serving = drop("before the damage.png", until)["model_version"]
        damaged = publish()
        (damaged.folder / "model.onnx").write_bytes(b"no model")
        registry._client.set_registered_model_alias("starter", "champion", str(damaged.number))
        until(lambda: figures(run)["sightstream_model_reloads_total", "failed"] == 1)
        row = drop("after the damage.png", until)
        assert (row["status"], row["model_version"]) == ("ok", serving)
        assert run.poll() is None

    def test_ctrl_c_leaves_cleanly(self, home, run):
        rows = home.table().num_rows
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        assert run.wait(timeout=60) == 0
        assert "finishing the current micro-batch" in (home.settings.root / "run.err").read_text()
        assert home.table().num_rows == rows


def picked(figures, name):
    """The figures of one name, by their labels' values."""
    return {tuple(labels): value for (each, *labels), value in figures.items() if each == name}
