"""The page, in Streamlit's own test harness: every page, and every way in which it lacks something.

One stream classified digits, broken files and files with hostile names; all tests look at its rows.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import web
from sightstream.models.bring.bring import Wish
from sightstream.models.bring.scale import NAMED
from sightstream.models.registry import Registry
from sightstream.tables.labels import Labels
from tests.foreign import save
from training.bring import import_model
from web.commands import STREAMLIT

APP = Path(web.__file__).with_name("app.py")
BAD_IMAGES = Path(__file__).parents[2].parent / "shared" / "data" / "badimages"
PAGES = ["classify.py", "live.py", "models.py", "label.py"]
HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    "[a](javascript:b) **c** `d` $e$ :smile: :red[f].png",
]
HEAVY = ("pyspark", "tensorflow", "keras", "elephas")


@pytest.fixture(autouse=True, scope="module")
def served():
    """Streamlit's options as `sightstream web` sets them."""
    before = {name: st.get_option(name) for name in STREAMLIT}
    for name, value in STREAMLIT.items():
        st.config.set_option(name, value)
    yield
    for name, value in before.items():
        st.config.set_option(name, value)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Nothing that an earlier test saw is remembered; processes that it started end."""
    # The page's own process never has it; where it is, each of Streamlit's runs collects garbage.
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(scope="module")
def home(new_home):
    """Two versions of one model: the champion, and a copy of it as its challenger."""
    home = new_home(own_registry=True)
    home.publish_copies(1)
    return home


@pytest.fixture(scope="module")
def rows(home, starter):
    """The rows of 24 digits, two of them with hostile names, and a broken file, by name."""
    place = home.settings.root / "photos"
    place.mkdir()
    for digit in starter.digits[:: len(starter.digits) // 22][:22]:
        shutil.copyfile(digit, place / digit.name)
    for name in HOSTILE:
        shutil.copyfile(starter.digits[0], place / name)
    (place / "broken.png").write_bytes(starter.digits[0].read_bytes()[:99])
    assert home("drop", place).returncode == 0
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    return {Path(row["original_name"]).name: row for row in home.table().to_pylist()}


@pytest.fixture
def visit(monkeypatch):
    """Opens a page on a home."""

    def open_page(settings, page, **variables):
        variables = {"HOME": settings.root, "REGISTRY_URI": settings.registry_uri, **variables}
        for name, value in variables.items():
            monkeypatch.setenv(f"SIGHTSTREAM_{name}", str(value))
        seen = AppTest.from_file(str(APP), default_timeout=60)
        seen.run()
        return seen.switch_page(page).run() if page != PAGES[0] else seen

    return open_page


def said(seen):
    """All text on the page that a person can read."""
    kinds = (seen.markdown, seen.text, seen.caption, seen.info, seen.error, seen.warning,
             seen.success, seen.code, seen.subheader, seen.header)  # fmt: skip
    assert not seen.exception, seen.exception
    texts = [str(each.value) for kind in kinds for each in kind]
    texts += [each.proto.text for each in seen.get("progress")]
    return "\n".join(texts).replace("\\", "").replace("\N{WORD JOINER}", "")


def button(seen, label):
    (found,) = (each for each in seen.button if each.label.replace("\\", "").startswith(label))
    return found


def alternatives(seen):
    blocks = (*seen.get("imgs"), *seen.get("image"))
    return [image.alt for block in blocks for image in block.proto.imgs]


def upload(seen, *files):
    given = [(file.name, file.read_bytes(), "image/png") for file in files]
    return seen.file_uploader[0].set_value(given).run()


class TestEmptyHome:
    @pytest.mark.parametrize(
        ("page", "command"),
        [
            ("classify.py", "sightstream train starter"),
            ("live.py", "sightstream run"),
            ("models.py", "sightstream train starter"),
            ("label.py", "sightstream run"),
        ],
    )
    def test_each_page_says_what_to_do_next(self, visit, settings, page, command):
        seen = visit(settings, page)
        assert command in [each.value for each in seen.code]
        assert not seen.error
        assert not seen.exception

    @pytest.mark.parametrize("page", ["classify.py", "models.py"])
    def test_a_registry_that_is_away_is_a_sentence(self, visit, settings, page):
        begin = time.monotonic()
        seen = visit(settings, page, REGISTRY_URI="http://127.0.0.1:9")
        assert "the registry http://127.0.0.1:9 failed: Connection refused" in said(seen)
        assert button(seen, "Try again")
        assert time.monotonic() - begin < 15

    def test_no_champion_is_a_sentence(self, visit, home, new_home):
        bare = new_home(own_registry=True)
        registry = Registry(bare.settings.registry_address)
        registry._client.delete_registered_model_alias("starter", "champion")
        seen = visit(bare.settings, "classify.py")
        assert "No version of starter is the champion yet" in said(seen)
        assert "sightstream models promote starter 1" in said(seen)

    def test_a_damaged_champion_is_a_sentence(self, visit, new_home, tmp_path):
        bare = new_home(own_registry=True)
        registry = Registry(bare.settings.registry_address)
        first = registry.version("starter", 1)
        copy = shutil.copytree(first.folder, tmp_path / "copy")
        version = registry.publish(
            "starter", copy, first.digest, parameters={}, metrics={}, curves={}
        )
        registry.promote("starter", version.number)
        (version.folder / "model.onnx").write_bytes(b"something else")
        seen = visit(bare.settings, "classify.py")
        assert "is not the file that was registered" in said(seen)


class TestClassify:
    def test_the_answers_are_those_of_predict_and_of_the_stream(self, visit, home, rows, starter):
        files = [d for d in starter.digits if d.name in rows]
        assert len(files) == 22
        done = home("predict", *files, "--top", "5", "--json")
        predicted = {Path(each["path"]).name: each["top"] for each in json.loads(done.stdout)}
        seen = visit(home.settings, "classify.py")
        upload(seen, *files)
        answers = seen.session_state["answers"].values()
        assert len(answers) == 22
        for file, each in zip(files, answers, strict=True):
            labels = [str(index) for index in each.answer.classes]
            for told in (predicted[file.name], rows[file.name]["top"]):
                assert [t["label"] for t in told] == labels[: len(told)]
                scores = [t["score"] for t in told]
                assert each.answer.scores[: len(told)] == pytest.approx(scores, rel=0, abs=1e-6)

    def test_an_answer_shows_label_scores_version_and_time(self, visit, home, rows, starter):
        digit = starter.digits[-1]
        seen = upload(visit(home.settings, "classify.py"), digit)
        text = said(seen)
        assert "9" in [each.value for each in seen.subheader]
        assert digit.name in text
        assert "starter version 1 on onnx" in text
        assert " ms: decoding" in text
        assert len(seen.get("progress")) == 5
        assert alternatives(seen) == [f"{digit.name}, said to be 9"]

    def test_a_file_that_is_no_image_gets_the_decoders_sentence(self, visit, home, tmp_path):
        wrong = tmp_path / "notes.jpg"
        wrong.write_text("not a picture")
        seen = upload(visit(home.settings, "classify.py"), wrong)
        assert "Not a DICOM, JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF, HEIC or JXL file" in said(seen)
        assert alternatives(seen) == ["no picture of notes.jpg"]

    def test_names_with_markup_are_text(self, visit, home, starter, tmp_path):
        for name in HOSTILE:
            shutil.copyfile(starter.digits[0], tmp_path / name)
        seen = upload(visit(home.settings, "classify.py"), *(tmp_path / name for name in HOSTILE))
        assert [each.value for each in seen.text] == HOSTILE
        markup = [each.value for each in (*seen.markdown, *seen.caption)]
        markup += [each.proto.body for each in seen.get("html")]
        assert not [text for text in markup if "onerror" in text or "javascript" in text]

    def test_the_pixels_that_decided_are_shown_on_demand(self, visit, home, starter):
        seen = upload(visit(home.settings, "classify.py"), starter.digits[-1])
        (wish,) = (each for each in seen.toggle if each.label == "Show which pixels decided")
        wish.set_value(True).run()
        (alternative,) = alternatives(seen)
        assert alternative == f"{starter.digits[-1].name}: the pixels that decided for 9, in colour"
        assert "hiding it makes the best label's score fall" in said(seen)

    def test_what_is_uploaded_is_shown_page_by_page(self, visit, home, starter):
        seen = upload(visit(home.settings, "classify.py"), *starter.digits[:30])
        assert len(alternatives(seen)) == 12
        button(seen, "Show 12 more of 18").click().run()
        assert len(alternatives(seen)) == 24

    def test_an_image_that_ends_its_process_costs_no_other_answer(self, visit, home, starter):
        from sightstream.models.registry import Version
        from web import page as shared

        seen = visit(home.settings, "classify.py")
        engine = shared.engine(Registry(home.settings.registry_address).version("starter"))
        engine.classify(starter.digits[0].read_bytes())
        engine._child._running[0].kill()
        assert engine.classify(starter.digits[0].read_bytes()).error_code == "crashed"
        assert engine.classify(starter.digits[0].read_bytes()).error_code is None
        assert isinstance(shared.champion("starter"), Version)
        assert not seen.exception

    @pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason=f"{BAD_IMAGES} is not there")
    def test_every_bad_image_gets_an_answer_or_a_sentence(self, visit, home):
        files = sorted(p for p in BAD_IMAGES.iterdir() if p.is_file() and not p.is_symlink())
        assert len(files) > 800
        seen = visit(home.settings, "classify.py")
        seen.file_uploader[0].set_value([(f.name, f.read_bytes(), "") for f in files])
        seen.run(timeout=200)
        answers = [each.answer for each in seen.session_state["answers"].values()]
        assert len(answers) == len(files)
        for answer in answers:
            assert answer.scores or (answer.error_code and answer.error_detail)
        assert not [a for a in answers if a.error_code in {"crashed", "timeout"}]
        assert sum(answer.error_code is None for answer in answers) > 100
        seen.session_state["pages"] = 100
        seen.run(timeout=200)
        assert len(alternatives(seen)) == len(files)
        assert not seen.exception


class TestLive:
    def test_the_newest_rows_are_there_with_names_as_text(self, visit, home, rows):
        seen = visit(home.settings, "live.py")
        text = said(seen)
        assert f"Rows 1 to 20 of {len(rows)}" in text
        names = [each.value for each in seen.text]
        assert sum(name.startswith("photos/") for name in names) == 20
        assert len(alternatives(seen)) == 20
        assert {each.label: each.value for each in seen.metric}["Rejected"] == "1"

    def test_older_rows_are_one_button_away(self, visit, home, rows):
        seen = visit(home.settings, "live.py")
        button(seen, "Older").click().run()
        assert f"Rows 21 to {len(rows)} of {len(rows)}" in said(seen)
        button(seen, "Newer").click().run()
        assert "Rows 1 to 20" in said(seen)

    def test_filters_leave_the_rows_that_match(self, visit, home, rows):
        seen = visit(home.settings, "live.py")
        status, kinds = seen.selectbox[0], {each.label: each for each in seen.multiselect}
        assert kinds["Versions"].options == ["starter 1"]
        assert kinds["Sources"].options == ["folder"]
        status.select("rejected").run()
        assert "Rows 1 to 1 of 1," in said(seen)
        assert "photos/broken.png" in said(seen)
        status.select(None).run()
        label = rows[HOSTILE[0]]["label"]
        kinds["Labels"].select(label).run()
        same = sum(row["label"] == label for row in rows.values())
        assert f"Rows 1 to {same} of {same}," in said(seen)
        seen.slider[0].set_range(0.0, 0.01).run()
        assert "No row matches" in said(seen)

    def test_hostile_names_are_shown_as_they_are(self, visit, home, rows):
        seen = visit(home.settings, "live.py")
        (labels,) = (each for each in seen.multiselect if each.label == "Labels")
        labels.select(rows[HOSTILE[0]]["label"]).run()
        assert {f"photos/{name}" for name in HOSTILE} <= {each.value for each in seen.text}

    def test_a_row_opens_all_that_is_known(self, visit, home, rows):
        row = rows["broken.png"]
        seen = visit(home.settings, "live.py")
        seen.query_params["event"] = row["event_id"]
        seen.run()
        assert row["error_detail"] in said(seen)
        shown = seen.table[0].value.iloc[:, -1]
        facts = {key.replace("\\", ""): value.replace("\\", "") for key, value in shown.items()}
        assert facts["uri"] == row["uri"]
        assert set(facts) == {k for k, v in row.items() if v is not None and k != "top"}

    def test_a_picture_that_is_gone_leaves_its_row(self, visit, home, rows):
        kept = Path(rows["broken.png"]["uri"].removeprefix("file://"))
        aside = kept.rename(kept.with_suffix(".aside"))
        seen = visit(home.settings, "live.py")
        seen.selectbox[0].select("rejected").run()
        assert alternatives(seen) == ["no picture of photos/broken.png"]
        aside.rename(kept)

    @pytest.mark.parametrize("page", ["live.py", "label.py"])
    def test_a_table_that_cannot_be_read_is_a_sentence(self, visit, home, rows, page):
        log = Path(home.settings.predictions, "_delta_log")
        commits = len(list(log.glob("*.json")))
        broken = log / f"{commits:020}.json"
        broken.write_text('{"add":')
        seen = visit(home.settings, page)
        broken.unlink()
        assert f"the table {home.settings.predictions} cannot be read: " in said(seen)


def test_an_imported_model_says_where_it_is_from(visit, settings, tmp_path):
    wish = Wish(tuple("abcd"), scale=NAMED["0..1"])
    import_model(
        settings, save(tmp_path), "mine", wish, None, promote=True, allow_unreadable=False,
        on_step=lambda _: None,
    )  # fmt: skip
    seen = visit(settings, "models.py")
    assert "imported " in said(seen)
    shown = seen.table[-1].value.iloc[:, -1]
    facts = {key.replace("\\", ""): value.replace("\\", "") for key, value in shown.items()}
    facts = {key.replace("\N{WORD JOINER}", ""): value for key, value in facts.items()}
    assert facts["origin: file"] == "net.onnx"
    assert facts["origin: scale"].replace("\N{WORD JOINER}", "") == "0..1, from --scale"


class TestModels:
    @pytest.fixture
    def seen(self, visit, home):
        return visit(home.settings, "models.py")

    def test_champion_and_challenger_stand_side_by_side(self, seen):
        assert [each.value for each in seen.subheader] == [
            "Version 1 · champion", "Version 2 · challenger",
        ]  # fmt: skip
        assert [each.label for each in seen.metric].count("Accuracy") == 2
        assert "promoted: there was no champion" in said(seen)

    def test_curves_confusion_and_mistakes_come_from_the_report(self, seen):
        charts = (*seen.get("vega_lite_chart"), *seen.get("arrow_vega_lite_chart"))
        charts = [json.loads(each.proto.spec) for each in charts]
        described = [each["description"] for each in charts]
        lines = [f"version {n}, {kind}" for n in (1, 2) for kind in ("training", "validation")]
        assert described[:2] == [
            f"{figure} over the rounds: {'; '.join(lines)}." for figure in ("loss", "accuracy")
        ]
        assert sum("lie on the diagonal" in text for text in alternatives(seen)) == 2
        assert sum("most confidently wrong" in text for text in alternatives(seen)) == 2

    def test_promoting_asks_first_and_rolling_back_too(self, seen, visit, home, until):
        registry = Registry(home.settings.registry_address)
        button(seen, "Promote…").click().run()
        assert registry.version("starter").number == 1
        seen.button(key="sure").click().run()
        assert registry.version("starter").number == 2
        assert "Version 2 of starter is the champion." in said(seen)
        assert "version 2" in said(visit(home.settings, "classify.py"))
        seen = visit(home.settings, "models.py")
        button(seen, "Roll back to version 1…").click().run()
        seen.button(key="cancel").click().run()
        assert registry.version("starter").number == 2
        button(seen, "Roll back to version 1…").click().run()
        seen.button(key="sure").click().run()
        assert registry.version("starter").number == 1

    @pytest.mark.parametrize(
        ("host", "proxy", "promote", "off"),
        [("0.0.0.0", "", "loopback", True), ("0.0.0.0", "", "always", False),
         ("::1", "", "loopback", False), ("127.0.0.1", "photos.example", "loopback", True),
         ("127.0.0.1", "photos.example", "always", False), ("127.0.0.1", "", "never", True)],
    )  # fmt: skip
    def test_both_are_off_where_others_reach_the_page(self, visit, home, host, proxy, promote, off):
        made = {"WEB_HOST": host, "WEB_HOSTS": proxy, "WEB_PROMOTE": promote}
        seen = visit(home.settings, "models.py", **made)
        assert button(seen, "Promote…").disabled == off
        assert ("web_promote" in said(seen)) == off
        if off:
            seen.session_state["move"] = "starter", 2
            seen.run()
            assert Registry(home.settings.registry_address).version("starter").number == 1


class TestLabel:
    @pytest.fixture(autouse=True)
    def unlabelled(self, home, rows):
        yield
        shutil.rmtree(home.settings.labels, ignore_errors=True)

    def current(self, home):
        return {
            r["event_id"]: r["label"] for r in Labels(home.settings.labels).current().to_pylist()
        }

    def least_certain(self, rows):
        good = [row for row in rows.values() if row["status"] == "ok"]
        return sorted(good, key=lambda row: (row["score"], row["event_id"]))

    def test_the_least_certain_comes_first_and_each_label_has_its_key(self, visit, home, rows):
        seen = visit(home.settings, "label.py")
        first = self.least_certain(rows)[0]
        assert first["original_name"] in [each.value for each in seen.text]
        keys = {each.label[0]: each.proto.shortcut for each in seen.button if "·" in each.label}
        assert keys
        assert all(label == key for label, key in keys.items())

    def test_one_key_labels_and_another_takes_it_back(self, visit, home, rows):
        seen = visit(home.settings, "label.py")
        first, second = self.least_certain(rows)[:2]
        button(seen, "7").click().run()
        assert self.current(home) == {first["event_id"]: "7"}
        assert second["original_name"] in [each.value for each in seen.text]
        button(seen, "Undo").click().run()
        assert self.current(home) == {}
        assert first["original_name"] in [each.value for each in seen.text]

    def test_a_skipped_row_is_not_asked_again(self, visit, home, rows):
        seen = visit(home.settings, "label.py")
        first = self.least_certain(rows)[0]
        button(seen, "Skip").click().run()
        assert first["original_name"] not in [each.value for each in seen.text]
        assert self.current(home) == {}

    def test_when_all_are_labelled_the_page_says_what_comes_next(self, visit, home, rows):
        good = [row["event_id"] for row in self.least_certain(rows)]
        Labels(home.settings.labels).put(dict.fromkeys(good, "1"), "test")
        seen = visit(home.settings, "label.py")
        assert "Every row of starter is labelled" in said(seen)
        assert "sightstream refresh starter" in said(seen)


def test_its_process_has_neither_spark_nor_tensorflow(home, rows, starter):
    script = f"""
import sys
from streamlit.testing.v1 import AppTest
if __name__ == "__main__":
    seen = AppTest.from_file({str(APP)!r}, default_timeout=60).run()
    digit = open({str(starter.digits[0])!r}, "rb").read()
    seen.file_uploader[0].set_value(("a.png", digit, "image/png")).run()
    assert len(seen.subheader) == 1, seen
    for page in {PAGES[1:]!r}:
        assert not seen.switch_page(page).run().exception
    print([name for name in {HEAVY!r} if name in sys.modules])
"""
    place = home.settings.root / "look.py"
    place.write_text(script)
    done = subprocess.run(
        [sys.executable, str(place)], env=home.environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr
