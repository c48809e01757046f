"""DICOM: of whom a picture shows, nothing reaches rows, logs, metrics, page or answers."""

import json
import re
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from tests.dicoms import EXPLICIT, RLE, dataset, item, saved

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("libjpeg")

NAME, DATE, NUMBER = "QZXWV", "19470911", "947091147"
SECRET = re.compile(rf"{NAME}|{DATE}|1947-09-11|{NUMBER}", re.IGNORECASE)
TEXTS = {
    "PN": f"{NAME}^Jane", "LO": f"{NAME} of 9 Hill Road", "SH": NAME, "LT": f"{NAME} fell\nill",
    "ST": NAME, "UT": NAME, "UC": NAME, "UR": f"http://{NAME}.example", "AE": NAME, "CS": NAME,
    "DA": DATE, "DT": DATE + "101112", "TM": "101112", "AS": "047Y", "UI": f"1.2.{NUMBER}",
    "IS": NUMBER, "DS": NUMBER,
}  # fmt: skip
NEEDED = re.compile(
    "^(Rows|Columns|.*Frames|Photometric.*|Bits.*|Window.*|Rescale.*|.*Pixel.*|VOI.*|Modality.*|"
    "SOPClassUID|TransferSyntaxUID|.*LUT.*|SpecificCharacterSet|Planar.*)$"
)


def told(made):
    """Writes each element that the standard knows and that holds text, also into a sequence."""
    from pydicom.datadict import DicomDictionary
    from pydicom.dataset import Dataset

    inner = Dataset()
    for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
        if kind in TEXTS and tag >> 16 not in (0, 2, 4) and not NEEDED.match(keyword):
            made.add_new(tag, kind, TEXTS[kind])
            inner.add_new(tag, kind, TEXTS[kind])
    made.add_new(0x00090010, "LO", NAME)
    made.add_new(0x00091001, "LO", NAME)
    made.RequestAttributesSequence = [inner]
    return made


def replaced(data, old, new):
    """The same file with a text in the place of another of its length."""
    assert data.count(old) >= 1
    return data.replace(old, new[: len(old)].ljust(len(old)))


def files():
    """Pictures, what holds none, and damage of each kind, with a patient in all of them."""
    ramp = np.add.outer(np.arange(40), np.arange(40)).astype("u2") * 40
    window = {"WindowCenter": "1234.567", "WindowWidth": "2222.222"}
    made = {
        "plain.dcm": saved(told(dataset(ramp, bits=12, **window))),
        "no suffix": saved(told(dataset(ramp, bits=12))),
        "rle.dcm": saved(told(dataset(ramp, bits=12)), compressed=RLE),
    }
    plain = made["plain.dcm"]
    report = told(dataset(ramp, sop="1.2.840.10008.5.1.4.1.1.88.11"))
    for each in ("PixelData", "Rows", "Columns"):
        delattr(report, each)
    made |= {
        "report.dcm": saved(report),
        "cut.dcm": plain[:-500],
        "cut in the header.dcm": plain[: len(plain) // 2],
        "name for a number.dcm": replaced(plain, b"1234.567", f"{NAME}^Jane".encode()),
        "name for colours.dcm": replaced(plain, b"MONOCHROME2 ", f"{NAME}^JANE".encode()),
        "name for a class.dcm": replaced(plain, b"1.2.840.10008.5.1.4.1.1.2\0", NAME.encode()),
        "name for a syntax.dcm": replaced(plain, EXPLICIT.encode() + b"\0", NAME.encode()),
        "name behind the pixels.dcm": plain + NAME.encode() * 99,
    }
    random = np.random.default_rng(2)
    for number in range(25):
        data = bytearray(plain)
        for place in random.integers(132, len(plain) - ramp.nbytes, 1 + number % 3):
            data[place] = int(random.integers(256))
        made[f"noise {number}.dcm"] = bytes(data)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    for name, data in files().items():
        assert SECRET.search(data.decode("latin-1"))
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def home(new_home, folder):
    """Where a stream has classified the files, with all that it said and its metrics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "always")  # for every command of this home
        home = new_home()
    root = home.settings.root
    with home.running() as process:
        done = home("drop", folder)
        assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 120
        while home.count() < len(files()):
            assert process.poll() is None, (root / "run.err").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with urlopen(process.metrics_url) as answer:
            (root / "metrics.txt").write_bytes(answer.read())
    return home


def test_the_pictures_are_classified_and_the_others_refused(home):
    rows = {Path(r["original_name"]).name: r for r in home.table().to_pylist()}
    assert len(rows) == len(files())
    for name in ("plain.dcm", "no suffix", "rle.dcm", "name behind the pixels.dcm"):
        assert (rows[name]["status"], rows[name]["format"]) == ("ok", "DICOM"), rows[name]
        assert (rows[name]["width"], rows[name]["height"]) == (40, 40)
    assert rows["report.dcm"]["error_detail"] == "A DICOM structured report holds no picture."
    assert rows["cut.dcm"]["error_code"] == "truncated"
    for name in ("name for a number.dcm", "name for colours.dcm", "name for a syntax.dcm"):
        assert rows[name]["status"] == "rejected"


def test_no_row_holds_anything_of_the_patient(home):
    for row in home.table().to_pylist():
        assert not SECRET.search(json.dumps(row, default=str)), row["original_name"]


def test_no_file_of_the_home_but_the_images_does(home):
    """Logs, what the command said, metrics, manifests, checkpoints."""
    root = home.settings.root
    seen = 0
    for path in root.rglob("*"):
        if path.is_file() and not path.is_relative_to(home.settings.images):
            assert not SECRET.search(path.read_bytes().decode("latin-1")), path
            seen += 1
    assert seen > 10 and "sightstream_" in (root / "metrics.txt").read_text()


def test_predict_does_not_tell_it(home, folder):
    done = home("predict", folder, "--json")
    assert len(json.loads(done.stdout)) == len(files())
    assert not SECRET.search(done.stdout + done.stderr)


def test_train_does_not_tell_it(home, tmp_path):
    """Whose error names a file that cannot be read, and whose split tells why."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for name, data in files().items():
            (tmp_path / label / name).write_bytes(data + label.encode())
    done = home("train", "starter", "--data", tmp_path)
    assert "cannot be read" in done.stderr
    assert not SECRET.search(done.stdout + done.stderr)


def test_the_page_does_not_show_it(home, monkeypatch):
    testing = pytest.importorskip("streamlit.testing.v1")
    import web

    monkeypatch.setenv("SIGHTSTREAM_HOME", str(home.settings.root))
    monkeypatch.setenv("SIGHTSTREAM_REGISTRY_URI", home.settings.registry_uri)
    app = Path(web.__file__).with_name("app.py")
    page = testing.AppTest.from_file(str(app), default_timeout=60).run()
    uploads = [(name, data, "application/dicom") for name, data in files().items()]
    page.file_uploader[0].set_value(uploads).run()
    shown = repr(page)
    assert "A DICOM structured report holds no picture." in shown
    assert not SECRET.search(shown)
    assert not SECRET.search(repr(page.switch_page("live.py").run()))


def test_an_item_of_a_sequence_is_searched_too():
    made = told(dataset(np.zeros((4, 4), "u2"), SourceImageSequence=[item(PatientID=NAME)]))
    assert saved(made).count(NAME.encode()) > 500
