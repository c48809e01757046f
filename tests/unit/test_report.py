"""report: files that open, a page that needs nothing else, and names that stay names."""

import json
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sightstream.images.limits import Limits
from training import report
from training.evaluate import evaluate
from training.report import Picture

CURVES = {
    "loss": [2.0, 1.0, 0.5], "val_loss": [2.1, 1.2, 0.9], "accuracy": [0.3, 0.6, 0.8],
    "val_accuracy": [0.2, 0.5, 0.7], "learning_rate": [0.001, 0.001, 0.0004],
}  # fmt: skip
HOSTILE = (
    "$x_1^2$ \\frac{", "<script>alert(1)</script>", "two\nlines", "W" * 200, "caf\udce9",
    "{{ 7 * 7 }}", "\u202egnp.exe", "বাংলা", '" onload="alert(1)',
)  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.images, self.attributes, self.text = set(), [], set(), ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.text += f"{data} "

    @property
    def alts(self):
        return " ".join(image["alt"] for image in self.images)


def evaluation(labels, images=200):
    """Nobody tested the last label."""
    rng = np.random.default_rng(len(labels))
    probabilities = rng.dirichlet(np.ones(len(labels)), images).astype(np.float32)
    return evaluate(probabilities, np.arange(images) % (len(labels) - 1), labels)


def painted(folder, *colours):
    for n, colour in enumerate(colours):
        Image.new("RGB", (50, 50), colour).save(folder / f"{n}.png")
    return [str(folder / f"{n}.png") for n in range(len(colours))]


def size(path):
    with Image.open(path) as image:
        image.verify()
        return image.size


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report in which every name is hostile and no picture can be read."""
    folder = tmp_path_factory.mktemp("hostile") / "new" / "folder"
    paths = ["/no/<img src=x>\n$a_1$\udcff.jpg", "\0", "\ud800", "/dev/null", "https://a.b/c.png"]
    pictures = [
        Picture(paths[n % 5], n % 9, (n + 1) % 9 if n % 3 else n % 9, n / 50) for n in range(50)
    ]
    facts = {"<b>recipe</b>": "<i>\udcff</i>", "sizes": {"<u>": (1, 2)}, "rate": 0.1 + 0.2}
    write = report.write
    return write(
        folder, "<script>t</script>", evaluation(HOSTILE), CURVES, pictures, facts, Limits()
    )


def test_every_file_is_there_and_opens(hostile):
    names = {path.name for path in hostile.parent.iterdir()}
    drawings = {"confusion.png", "curves.png", "reliability.png", "wrong.png", "samples.png"}
    assert names == drawings | {"evaluation.json", "report.html"}
    for name in drawings:
        width, height = size(hostile.parent / name)
        assert 400 < width < 2500 and 400 < height < 2500, name


def test_the_page_holds_the_pictures(hostile):
    images = Page(hostile).images
    assert len(images) == 5
    embedded = {b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images}
    assert embedded == {path.read_bytes() for path in hostile.parent.glob("*.png")}
    assert Image.open(BytesIO(embedded.pop())).format == "PNG"
    assert all(len(image["alt"]) > 20 for image in images)


def test_the_page_needs_nothing_from_outside(hostile):
    page = Page(hostile)
    assert not page.tags & {"script", "link", "iframe", "object", "a"}
    assert "default-src 'none'" in hostile.read_text("utf-8")
    assert all(image["src"].startswith("data:") for image in page.images)


def test_names_are_text_and_nothing_else(hostile):
    page = Page(hostile)
    for shown in (*HOSTILE[:2], "two\\nlines", "W" * 200, "caf\\udce9", *HOSTILE[5:6],
                  "\\u202egnp.exe", *HOSTILE[7:], "<script>t</script>", "<b>recipe</b>",
                  "<i>\\udcff</i>", "<u>", "/no/<img src=x>\\n$a_1$\\udcff.jpg"):  # fmt: skip
        assert shown in page.text, shown
    assert not page.tags & {"i", "b", "u"}
    assert "onload" not in page.attributes
    assert '" onload="alert(1)' in page.alts


def test_facts_may_hold_mappings_and_sequences(hostile):
    text = Page(hostile).text
    assert "1, 2" in text
    assert "0.3" in text and "0.30000000000000004" not in text


def test_the_json_holds_the_evaluation(hostile):
    read = json.loads((hostile.parent / "evaluation.json").read_text("utf-8"))
    assert read == json.loads(json.dumps(evaluation(HOSTILE).as_dict()))


def test_pictures_that_cannot_be_read_get_a_grey_tile(hostile):
    grey = (pixels(hostile.parent / "wrong.png") == 190).all(axis=2).sum()
    assert grey > 0.9 * 24 * (1.55 * 144) ** 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Two classes, five pictures, no curves."""
    folder = tmp_path_factory.mktemp("plain")
    red, green, blue, yellow, black = painted(folder, "red", "lime", "blue", "yellow", "black")
    pictures = [
        Picture(green, 0, 1, 0.6), Picture(red, 1, 0, 0.99), Picture(yellow, 0, 0, 1.0),
        Picture(blue, 0, 1, 0.55), Picture(black, 1, 1, 0.7),
    ]  # fmt: skip
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 5, np.float32)
    made = evaluate(probabilities, np.array([0, 0, 1, 1, 1, 1, 1, 0]), ("NORMAL", "PNEUMONIA"))
    facts = {"recipe": "xray", "best epoch": None, "pretrained": True}
    return report.write(folder / "out", "xray version 3", made, None, pictures, facts, Limits())


def test_without_curves_there_is_no_drawing_of_them(plain):
    assert not (plain.parent / "curves.png").exists()
    assert len(Page(plain).images) == 4


def test_the_most_confident_mistake_comes_first_and_right_answers_do_not_come(plain):
    sheet = pixels(plain.parent / "wrong.png")
    seen = {
        name: np.argwhere((sheet == colour).all(axis=2))
        for name, colour in {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255),
                             "yellow": (255, 255, 0)}.items()
    }  # fmt: skip
    assert not len(seen.pop("yellow"))
    assert sorted(seen, key=lambda name: seen[name][:, 1].mean()) == ["red", "green", "blue"]


def test_the_samples_show_right_and_wrong_answers(plain):
    sheet = pixels(plain.parent / "samples.png")
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 0, 0)):
        assert (sheet == colour).all(axis=2).sum() > 0.8 * (0.62 * 144) ** 2, colour


def test_the_page_tells_the_figures(plain):
    text = " ".join(Page(plain).text.split())
    assert "Accuracy 0.7500" in text
    assert "NORMAL 0.6667 0.6667 0.6667 0.2000 3" in text
    assert "PNEUMONIA 0.8000 0.8000 0.8000 0.3333 5" in text
    assert "macro avg 0.7333 0.7333 0.7333 8" in text
    assert "Top-3" not in text  # says nothing of two classes
    assert "recipe xray best epoch – pretrained yes" in text
    assert "6 of 8 images lie on the diagonal" in Page(plain).alts


def test_a_class_without_images_has_no_figures(tmp_path):
    made = evaluate(np.array([[0.9, 0.1, 0], [0.2, 0.8, 0]], np.float32), np.array([0, 1]), "abc")
    page = report.write(tmp_path, "t", made, {}, (), {}, Limits())
    assert "<td>–</td><td>–</td><td>–</td><td>0.0000</td><td>0</td>" in page.read_text("utf-8")
    assert len(Page(page).images) == 2
    assert not {"wrong.png", "samples.png"} & {path.name for path in tmp_path.iterdir()}


def test_nothing_of_an_earlier_report_in_the_folder_stays(tmp_path):
    for curves, pictures in ((CURVES, [Picture("/no/a.png", 0, 1, 0.9)]), (None, ())):
        report.write(tmp_path, "t", evaluation("abc"), curves, pictures, {}, Limits())
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"evaluation.json", "confusion.png", "reliability.png", "report.html"}


def test_one_epoch_is_enough_for_curves(tmp_path):
    curves = {"loss": [float("nan")], "accuracy": [0.5], "val_loss": []}
    report.write(tmp_path, "t", evaluation("abc"), curves, (), {}, Limits())
    width, height = size(tmp_path / "curves.png")
    assert 2 * height < width < 3 * height  # two panels, side by side


def test_the_confusion_matrix_grows_with_the_classes(tmp_path):
    sizes = []
    for count in (2, 9, 40):
        labels = [f"{n} {'a long name ' * 15}" for n in range(count)]
        report.write(tmp_path, "t", evaluation(labels), None, (), {}, Limits())
        sizes.append(size(tmp_path / "confusion.png"))
    assert sizes == sorted(sizes)
    assert sizes[-1][0] > 40 * 0.36 * 144 + 200
    assert max(sizes[-1]) < 3000


def test_importing_it_brings_in_no_drawing_library():
    code = (
        "import sys, training.report, training.evaluate; "
        "print({'matplotlib', 'jinja2', 'sklearn', 'pyspark', 'tensorflow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
