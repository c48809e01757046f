"""training.datasets: what is found, on which side each image is, and what is left out and why."""

import hashlib
import os
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sightstream.errors import InputError
from sightstream.images.decode import Preprocessing
from sightstream.images.limits import Limits
from sightstream.images.store import local_path
from tests.examples import digest, divide, faults, images, seen
from training import split
from training.datasets import (
    Dataset,
    Example,
    Source,
    _row,
    class_folders,
    one_spelling,
    read_split,
    require_readable,
)
from training.split import SPLITS

ODD_NAMES = [
    "red panda", "a, b; c", "(d) [e] {f}", 'quo"te', "日本語 🐈", "e\u0301 and \u00e9", "-g", "50%",
]  # fmt: skip
NOT_UTF_8 = os.fsdecode(b"caf\xe9.png")


def fill(folder, *paths):
    """Files below a folder, each with a content of its own."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(os.fsencode(path))
    return folder


def dataset(examples):
    labels = tuple(sorted({e.label for e in examples}))
    return Dataset(labels, None, examples, Preprocessing(8, 8))


def csv(folder, *lines, header="path,label,split"):
    path = folder / "split.csv"
    path.write_text("\n".join((header, *lines)) + "\n", "utf-8")
    return path


# Class folders


def test_a_class_is_a_folder_and_all_below_it_are_its_images(tmp_path):
    fill(tmp_path, "cat/b.png", "cat/more/a.png", "dog/c.jpg")
    found = [(e.path, e.label) for e in class_folders(tmp_path)]
    assert found == [
        (str(tmp_path / "cat/b.png"), "cat"),
        (str(tmp_path / "cat/more/a.png"), "cat"),
        (str(tmp_path / "dog/c.jpg"), "dog"),
    ]


def test_hidden_files_and_hidden_classes_are_no_images(tmp_path):
    fill(tmp_path, "cat/a.png", "cat/.b.png", ".git/c.png", "README.md")
    assert [e.path for e in class_folders(tmp_path)] == [str(tmp_path / "cat/a.png")]


def test_what_a_notebook_hides_in_a_class_is_no_image(tmp_path):
    fill(tmp_path, "cat/a.png", "cat/.ipynb_checkpoints/a-checkpoint.png")
    assert [e.path for e in class_folders(tmp_path)] == [str(tmp_path / "cat/a.png")]


def test_paths_are_absolute_wherever_one_stands(tmp_path, monkeypatch):
    fill(tmp_path, "photos/cat/a.png")
    monkeypatch.chdir(tmp_path / "photos")
    (found,) = class_folders(type(tmp_path)("."))
    assert found.path == str(tmp_path / "photos/cat/a.png")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_class_may_have_any_name(tmp_path, name):
    (found,) = class_folders(fill(tmp_path, f"{name}/a.png"))
    assert found.label == name
    assert local_path(found.uri) == found.path == str(tmp_path / name / "a.png")


def test_a_file_name_that_is_not_utf_8_has_a_uri(tmp_path):
    (found,) = class_folders(fill(tmp_path, f"cat/{NOT_UTF_8}"))
    assert found.uri.endswith("cat/caf%E9.png")
    assert local_path(found.uri) == found.path


def test_a_class_whose_name_no_row_could_hold_is_refused(tmp_path):
    fill(tmp_path, f"{NOT_UTF_8}/a.png", "dog/b.png")
    with pytest.raises(InputError, match="caf"):
        class_folders(tmp_path)


def test_empty_class_folders_are_named(tmp_path):
    fill(tmp_path, "cat/a.png", "dog/.hidden")
    (tmp_path / "red panda" / "inner").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no images in the class folder\(s\) dog, red panda of"):
        class_folders(tmp_path)


def test_a_folder_without_folders_says_what_it_needs(tmp_path):
    fill(tmp_path, "a.png")
    with pytest.raises(InputError, match="holds no folders; it needs one for each class"):
        class_folders(tmp_path)


def test_classes_of_dicom_count_by_their_files_with_a_suffix_or_without(tmp_path):
    fill(tmp_path, "set/scans/a.dcm", "set/scans/b/1.dcm", "set/scans/b/IM0001", "set/other/2.dcm")
    found = [(e.path, e.label) for e in class_folders(tmp_path)]
    assert found == [
        (str(tmp_path / "set/other/2.dcm"), "other"),
        (str(tmp_path / "set/scans/a.dcm"), "scans"),
        (str(tmp_path / "set/scans/b/1.dcm"), "scans"),
        (str(tmp_path / "set/scans/b/IM0001"), "scans"),
    ]


def test_a_folder_of_dicom_is_a_class_also_where_folders_stand_in_it(tmp_path):
    fill(tmp_path, "scans/1.dcm", "scans/left/2.dcm", "scans/right/3.dcm")
    assert {e.label for e in class_folders(tmp_path)} == {"scans"}


def heic(picture):
    import pillow_heif

    pillow_heif.from_pillow(picture).save(stream := BytesIO(), quality=95)
    return stream.getvalue()


def avif(picture):
    picture.save(stream := BytesIO(), "AVIF", quality=95)
    return stream.getvalue()


def jxl(picture):
    import imagecodecs

    return imagecodecs.jpegxl_encode(np.asarray(picture))


@pytest.mark.parametrize("encoded", [heic, avif, jxl])
def test_folders_of_new_formats_are_read_as_the_same_pictures(tmp_path, encoded):
    for label, colour in {"rust": (200, 90, 30), "leaf": (40, 160, 60)}.items():
        (tmp_path / label).mkdir()
        for number in range(3):
            picture = Image.new("RGB", (64, 48 + number), colour)
            name = f"IMG_{number}.{encoded.__name__}"
            (tmp_path / label / (name.upper() if number else name)).write_bytes(encoded(picture))
    want, found = Preprocessing(8, 8), class_folders(tmp_path)
    assert [e.label for e in found] == ["leaf"] * 3 + ["rust"] * 3
    rows = [_row(e.uri, want, Limits()) for e in found]
    assert [(width, height) for _, width, height, *_ in rows] == [(64, n) for n in (48, 49, 50)] * 2
    assert {fault for *_, fault in rows} == {""}
    for example, (pixels, *_) in zip(found, rows, strict=True):
        mean = np.frombuffer(pixels, np.uint8).reshape(-1, 3).mean(axis=0)
        wanted = (200, 90, 30) if example.label == "rust" else (40, 160, 60)
        assert np.abs(mean - wanted).max() < 4


def test_what_is_no_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing is no folder; give one that holds a folder"):
        class_folders(tmp_path / "nothing")


# Splits in folders


def laid(folder):
    return {os.path.relpath(e.path, folder): (e.label, e.split) for e in class_folders(folder)}


LAYOUTS = [
    ("train", "val", "test"), ("train", "valid", "test"), ("Train", "Validation", "Test"),
    ("training", "dev", "testing"), ("training_set", "validation_set", "test_set"),
    ("train-images", "val-images", "test-images"), ("1_train", "2_eval", "3_holdout"),
    ("trn", "dev", "tst"), ("train_split", "validate", "held-out"),
]  # fmt: skip


@pytest.mark.parametrize("names", LAYOUTS, ids=" ".join)
def test_folders_of_splits_are_splits_and_no_classes(tmp_path, names):
    train, validation, test = names
    fill(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{validation}/cat/3.png",
         f"{test}/dog/deep/4.png", "README.roboflow.txt", f"{train}/_annotations.csv")  # fmt: skip
    assert laid(tmp_path) == {
        f"{train}/cat/1.png": ("cat", "train"),
        f"{train}/dog/2.png": ("dog", "train"),
        f"{validation}/cat/3.png": ("cat", "validation"),
        f"{test}/dog/deep/4.png": ("dog", "test"),
    }


def test_splits_may_stand_below_each_class(tmp_path):
    fill(tmp_path, "cat/train/1.png", "cat/val/2.png", "dog/train/3.png", "dog/test/4.png")
    assert laid(tmp_path) == {
        "cat/train/1.png": ("cat", "train"), "cat/val/2.png": ("cat", "validation"),
        "dog/train/3.png": ("dog", "train"), "dog/test/4.png": ("dog", "test"),
    }  # fmt: skip


def test_a_split_may_hold_itself_as_archives_do(tmp_path):
    fill(tmp_path, "seg_train/seg_train/sea/1.png", "seg_test/seg_test/sea/2.png")
    assert set(laid(tmp_path).values()) == {("sea", ""), ("sea", "test")}


def test_without_a_split_to_validate_with_the_recipe_divides_what_is_to_train_on(tmp_path):
    paths = [f"train/{label}/{n}.png" for label in ("cat", "dog") for n in range(10)]
    found = Source((fill(tmp_path, *paths, "test/cat/x.png", "test/dog/y.png"),)).list()
    made = split.divide(found, seen(found), split.without_test((0.7, 0.1, 0.2)), 0)
    assert {e.split for e in made if "/train/" in e.path} == {"train", "validation"}
    assert {e.split for e in made if "/test/" in e.path} == {"test"}


@pytest.mark.parametrize("names", [("train", "car"), ("test", "exam"), ("train", "tram", "test")])
def test_classes_may_have_names_of_splits(tmp_path, names):
    fill(tmp_path, *(f"{name}/1.png" for name in names))
    assert dict(laid(tmp_path).values()) == dict.fromkeys(names, "")


UNKNOWN = [
    ("train", "holdout2"), ("train", "unseen"), ("train", "train_aug", "test"), ("val", "test"),
    ("pets_train", "pets_test"), ("train2020", "val2020"), ("train", "TestSetB"),
]  # fmt: skip


@pytest.mark.parametrize("names", UNKNOWN, ids=" ".join)
def test_splits_of_unknown_names_are_one_sentence(tmp_path, names):
    fill(tmp_path, *(f"{name}/{label}/{name}.png" for name in names for label in ("cat", "dog")))
    with pytest.raises(InputError, match=r"are named as splits, but not all are known .* --data"):
        class_folders(tmp_path)


@pytest.mark.parametrize(
    "names", [("fold1", "fold2", "fold3"), ("fold_0", "fold_1"), ("1fold", "2fold")]
)
def test_folds_are_one_sentence(tmp_path, names):
    fill(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))
    with pytest.raises(
        InputError, match=r"holds folds \(.*\), which are no classes; .*--split-file"
    ):
        class_folders(tmp_path)


@pytest.mark.parametrize("loose", ["cat/3.png", "dog/3.png", "dog/extra/3.png", "cat/val2/3.png"])
def test_what_is_in_no_split_of_its_class_is_named(tmp_path, loose):
    fill(tmp_path, "cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png", loose)
    there = "/".join(loose.split("/")[:2])
    with pytest.raises(InputError, match=rf"/{there} is in none of the folders of splits"):
        class_folders(tmp_path)


def test_a_class_without_the_splits_of_the_others_is_named(tmp_path):
    fill(tmp_path, "cat/train/1.png", "cat/test/2.png", "dog/3.png")
    with pytest.raises(InputError, match=r"/dog/3\.png is in none of the folders of splits"):
        class_folders(tmp_path)


def test_classes_may_hold_folders_of_such_names(tmp_path):
    fill(tmp_path, "vehicle/train/1.png", "vehicle/bus/2.png", "animal/3.png",
         "steam train/old/4.png", "night train/new/5.png")  # fmt: skip
    assert {split for _, split in laid(tmp_path).values()} == {""}


WRAPPED = ["data", "My-Set-1/images", "archive/archive/archive"]


@pytest.mark.parametrize("around", WRAPPED)
def test_a_set_may_stand_in_a_folder_that_holds_nothing_else(tmp_path, around):
    fill(tmp_path, "README.txt", f"{around}/README.md", f"{around}/train/cat/1.png",
         f"{around}/train/dog/2.png", f"{around}/val/cat/3.png")  # fmt: skip
    assert set(laid(tmp_path).values()) == {
        ("cat", "train"), ("dog", "train"), ("cat", "validation"),
    }  # fmt: skip
    fill(tmp_path / "more", f"{around}/cat/1.png", f"{around}/dog/deep/2.png")
    assert set(laid(tmp_path / "more").values()) == {("cat", ""), ("dog", "")}


def test_folders_below_a_single_class_are_no_classes(tmp_path):
    fill(tmp_path, "cat/1.png", "cat/old/2.png", "cat/new/3.png")
    assert set(laid(tmp_path).values()) == {("cat", "")}


def test_splits_beside_classes_are_one_sentence(tmp_path):
    fill(tmp_path, "train/cat/1.png", "test/cat/2.png", "dog/3.png")
    with pytest.raises(InputError, match=r"not all are known \(dog, test, train\); name"):
        class_folders(tmp_path)


@pytest.mark.parametrize("train", ["train/1.png", "train/cat/1.png"])
def test_a_split_without_classes_is_one_sentence(tmp_path, train):
    fill(tmp_path, train, "test/3.png")
    with pytest.raises(InputError, match=r"/(train|test) holds no folders of classes; sort its"):
        class_folders(tmp_path)


# What archives and systems add


def test_a_copy_of_the_set_inside_itself_counts_once(tmp_path):
    for inside in ("", "pets/"):
        for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
            fill(tmp_path / "pets", f"{inside}{name}")
            (tmp_path / "pets" / inside / name).write_bytes(name.encode())
    assert set(laid(tmp_path / "pets")) == {"cat/1.png", "cat/2.png", "dog/3.png"}


def test_a_copy_of_split_folders_inside_themselves_counts_once(tmp_path):
    for inside in ("", "xray/"):
        for name in ("train/sick/1.png", "test/well/2.png"):
            (tmp_path / inside / name).parent.mkdir(parents=True)
            (tmp_path / inside / name).write_bytes(name.encode())
    fill(tmp_path, "__MACOSX/train/sick/._1.png", "xray/.DS_Store", "xray/__MACOSX/._xray")
    assert set(laid(tmp_path)) == {"train/sick/1.png", "test/well/2.png"}


@pytest.mark.parametrize("inside", ["copy/pets", "a/b/c/pets", "cat copy"])
def test_a_copy_of_the_set_counts_once_at_any_depth(tmp_path, inside):
    names = ("cat/1.png",) if inside == "cat copy" else ("cat/1.png", "cat/2.png", "dog/3.png")
    for folder in ("", inside):
        for name in ("cat/1.png", "cat/2.png", "dog/3.png") if not folder else names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(name.encode())
    assert set(laid(tmp_path)) == {"cat/1.png", "cat/2.png", "dog/3.png"}


@pytest.mark.parametrize("inside", ["cat/pets", "dog/old/pets"])
def test_a_set_inside_a_class_is_one_sentence(tmp_path, inside):
    fill(tmp_path, "cat/1.png", "dog/2.png", f"{inside}/cat/1.png", f"{inside}/dog/2.png")
    with pytest.raises(InputError, match=rf"/{inside} holds folders of the same names"):
        class_folders(tmp_path)


@pytest.mark.parametrize("link", ["loop", "cat/loop", "dog/deep/loop"])
def test_a_link_to_a_folder_above_is_no_class(tmp_path, link):
    fill(tmp_path, "cat/1.png", "dog/deep/2.png")
    (tmp_path / link).symlink_to(tmp_path)
    assert set(laid(tmp_path)) == {"cat/1.png", "dog/deep/2.png"}


def test_another_set_inside_a_set_is_one_sentence(tmp_path):
    fill(tmp_path, "cat/1.png", "dog/2.png", "more/cat/3.png", "more/dog/4.png")
    with pytest.raises(InputError, match=r"/more holds folders of the same names .*\(cat, dog\)"):
        class_folders(tmp_path)


def test_what_archives_and_systems_add_is_no_image(tmp_path):
    fill(tmp_path, "cat/a.png", "__MACOSX/cat/._a.png", "cat/Thumbs.db", "cat/@eaDir/a.png/T.jpg",
         "cat/desktop.ini", "cat/b.png.part", "lost+found/x")  # fmt: skip
    assert laid(tmp_path) == {"cat/a.png": ("cat", "")}


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("labels", "expected"), [((), NFC), ((NFC,), NFC), ((NFD,), NFD)])
def test_one_class_whose_name_two_systems_wrote_is_one(tmp_path, labels, expected):
    fill(tmp_path, f"a/{NFC}/1.png", f"b/{NFD}/2.png", "a/tea/3.png")
    found = Source((tmp_path / "a", tmp_path / "b")).list()
    assert [e.label for e in one_spelling(found, labels)] == [expected, "tea", expected]
    with pytest.raises(InputError, match=r"holds 1 class\(es\)"):
        Source((fill(tmp_path / "c", f"{NFC}/1.png", f"{NFD}/2.png"),)).list()


# Sources


def test_folders_test_folder_and_further_examples_come_together(tmp_path):
    fill(tmp_path, "a/cat/1.png", "b/dog/2.png", "t/cat/3.png")
    more = Example("/images/4.png", "cow")
    source = Source((tmp_path / "a", tmp_path / "b"), tmp_path / "t", examples=(more,))
    found = [(e.label, e.split) for e in source.list()]
    assert found == [("cat", ""), ("dog", ""), ("cat", "test"), ("cow", "")]
    assert source.list()[-1] is more


def test_one_class_is_too_few(tmp_path):
    fill(tmp_path, "cat/a.png", "cat/b.png")
    with pytest.raises(InputError, match=r"holds 1 class\(es\); two or more are needed"):
        Source((tmp_path,)).list()


def test_a_split_file_beside_one_folder_is_pointed_to(tmp_path):
    fill(tmp_path, "images/a.png", "images/b.png", "split.csv")
    with pytest.raises(InputError, match=r"for each class, or the .* --split-file .*/split\.csv$"):
        Source((tmp_path,)).list()


def test_a_second_class_that_is_only_tested_is_too_few(tmp_path):
    fill(tmp_path, "a/cat/1.png", "t/cat/2.png", "t/dog/3.png")
    with pytest.raises(InputError, match=r"/a holds 1 class\(es\)"):
        Source((tmp_path / "a",), tmp_path / "t").list()


def test_a_second_class_may_come_from_people(tmp_path):
    fill(tmp_path, "cat/a.png")
    found = Source((tmp_path,), examples=(Example("/images/b.png", "dog"),)).list()
    assert [e.label for e in found] == ["cat", "dog"]


def test_no_data_at_all_says_what_to_give():
    with pytest.raises(InputError, match="--data"):
        Source().list()


# Split files


def test_a_split_file_says_what_is_where(tmp_path):
    path = csv(tmp_path, "a.png,cat,train", "sub/b.png,dog,validation", "/far/c.png,dog,test")
    assert Source(split_file=path).list() == [
        Example(str(tmp_path / "a.png"), "cat", split="train"),
        Example(str(tmp_path / "sub/b.png"), "dog", split="validation"),
        Example("/far/c.png", "dog", split="test"),
    ]


def test_relative_paths_start_at_the_split_file_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    csv(tmp_path, "a.png,cat,train", "b.png,dog,train")
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = Source(split_file=type(tmp_path)("../split.csv")).list()
    assert [os.path.normpath(e.path) for e in found] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "b.png"),
    ]


def test_the_columns_of_a_split_file_may_stand_in_any_order(tmp_path):
    lines = ("train,x,a.png,cat", "validation,y,b.png,dog")
    path = csv(tmp_path, *lines, header="split,who,path,label")
    found = [(e.label, e.split) for e in Source(split_file=path).list()]
    assert found == [("cat", "train"), ("dog", "validation")]


@pytest.mark.parametrize(
    "wrong",
    ["b.png,dog,exam", "b.png,dog,Train", "b.png,dog,", "b.png,dog", ",dog,test", "b.png,,test"],
)
def test_a_mistake_in_a_split_file_names_its_line(tmp_path, wrong):
    path = csv(tmp_path, "a.png,cat,train", wrong, "c.png,dog,train")
    with pytest.raises(InputError, match=r"split\.csv, line 3: path, label and split are needed"):
        Source(split_file=path).list()


@pytest.mark.parametrize("before", ["", '"two\nlines.png",cat,train'])
def test_the_line_is_the_one_that_an_editor_shows(tmp_path, before):
    path = csv(tmp_path, before, "a.png,cat,train", "b.png,dog,exam")
    line = path.read_text("utf-8").split("\n").index("b.png,dog,exam") + 1
    with pytest.raises(InputError, match=rf"split\.csv, line {line}: "):
        Source(split_file=path).list()


@pytest.mark.parametrize("header", ["a.png,cat,train", "Path,label,split", "path,label", ""])
def test_a_split_file_without_its_header_is_refused_in_its_first_line(tmp_path, header):
    path = csv(tmp_path, "b.png,dog,test", header=header)
    with pytest.raises(InputError, match=r"line 1: the names of the columns path, label and"):
        Source(split_file=path).list()


def test_a_split_file_from_a_spreadsheet_is_read(tmp_path):
    path = csv(tmp_path, "a.png,cat,train", "b.png,dog,test", "c.png,dog,train")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [e.label for e in Source(split_file=path).list()] == ["cat", "dog", "dog"]


TABLES = {
    "semicolons": b"path;label;split\na.png;cat;train\nb.png;dog;train\n",
    "tabs": b"path\tlabel\tsplit\na.png\tcat\ttrain\nb.png\tdog\ttrain\n",
    "told": b"sep=;\r\npath;label;split\r\na.png;cat;train\r\nb.png;dog;train\r\n",
    "told nothing": b"sep=\r\npath;label;split\r\na.png;cat;train\r\nb.png;dog;train\r\n",
    "told a bar": b"sep=|\npath|label|split\na.png|cat|train\nb.png|dog|train\n",
    "told a tab": b"sep=\t\npath\tlabel\tsplit\na.png\tcat\ttrain\nb.png\tdog\ttrain\n",
    "told a quote": b'sep="\npath,label,split\na.png,cat,train\nb.png,dog,train\n',
    "Windows": b"\xef\xbb\xbfpath;label;split\r\na.png;cat;train\r\nb.png;dog;train\r\n;;\r\n",
    "UTF-16": "path\tlabel\tsplit\r\na.png\tcat\ttrain\r\nb.png\tdog\ttrain".encode("utf-16"),
    "other column": b"path,label,split,note\na.png,cat,train,x; y; z; w\nb.png,dog,train,\n",
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_a_split_file_is_read_as_spreadsheets_write_it(tmp_path, content):
    (tmp_path / "split.csv").write_bytes(content)
    assert Source(split_file=tmp_path / "split.csv").list() == [
        Example(str(tmp_path / "a.png"), "cat", split="train"),
        Example(str(tmp_path / "b.png"), "dog", split="train"),
    ]


def test_the_line_of_a_mistake_counts_the_line_that_tells_the_separator(tmp_path):
    (tmp_path / "split.csv").write_text("sep=;\npath;label;split\na.png;cat;exam\n")
    with pytest.raises(InputError, match=r"split\.csv, line 3: "):
        Source(split_file=tmp_path / "split.csv").list()


def test_windows_separators_in_a_split_file_lead_to_the_file(tmp_path):
    fill(tmp_path, "images/a.png", "odd\\name.png")
    path = csv(tmp_path, "images\\a.png,cat,train", "odd\\name.png,dog,train")
    assert [e.path for e in Source(split_file=path).list()] == [
        str(tmp_path / "images/a.png"), str(tmp_path / "odd\\name.png"),
    ]  # fmt: skip


def test_a_label_of_a_split_file_that_cannot_be_a_class_is_refused(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("path,label,split\na.png,../cat,train\nb.png,dog,train\n")
    with pytest.raises(InputError, match=r"'\.\./cat' cannot be a label"):
        Source(split_file=path).list()


def test_a_split_file_of_one_class_is_named(tmp_path):
    path = csv(tmp_path, "a.png,cat,train", "b.png,cat,test")
    with pytest.raises(InputError, match=r"split\.csv holds 1 class\(es\)"):
        Source(split_file=path).list()


@pytest.mark.parametrize("name", ["", "nothing.csv"])
def test_a_split_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(InputError, match=rf"the split file {tmp_path / name} cannot be read"):
        Source(split_file=tmp_path / name).list()


def test_what_a_split_file_decides_stays_decided(tmp_path):
    lines = [f"{label}{n}.png,{label},test" for label in ("cat", "dog") for n in range(8)]
    path = csv(tmp_path, *lines, "c.png,cat,train", "d.png,dog,train", "e.png,dog,validation")
    found = Source(split_file=path).list()
    assert [(e.path, e.split) for e in divide(found)] == sorted((e.path, e.split) for e in found)


# Unreadable images


@pytest.mark.parametrize(("unreadable", "of"), [(0, 10), (1, 20), (5, 100), (50, 1000)])
def test_up_to_5_percent_of_the_images_may_be_unreadable(unreadable, of):
    assert require_readable(images(cat=unreadable), of, False) is None


@pytest.mark.parametrize(("unreadable", "of"), [(1, 19), (6, 100), (51, 1000), (1, 1)])
def test_above_5_percent_the_error_says_how_many_and_names_one(unreadable, of):
    expected = (
        rf"{unreadable} of {of} images cannot be read, such as /data/cat/0\.png; "
        r"sightstream predict says why, and --allow-unreadable goes on"
    )
    with pytest.raises(InputError, match=expected):
        require_readable(images(cat=unreadable), of, False)


def test_the_error_says_why_where_that_is_known():
    expected = r"/data/cat/0\.png: It has one window\. Only --allow-unreadable goes on"
    with pytest.raises(InputError, match=expected):
        require_readable(images(cat=1), 1, False, "It has one window.")


def test_more_may_be_unreadable_when_it_is_allowed():
    assert require_readable(images(cat=99), 100, True) is None


def test_a_worker_decodes_an_image_and_knows_its_content(tmp_path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / NOT_UTF_8)
    uri = (tmp_path / NOT_UTF_8).as_uri()
    pixels, *size, found, fault = _row(uri, Preprocessing(2, 3), Limits())
    assert size == [40, 30]
    assert pixels == bytes((255, 0, 0)) * 6
    assert found == hashlib.sha256((tmp_path / NOT_UTF_8).read_bytes()).hexdigest()
    assert fault == ""


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_worker_tells_why_an_image_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    uri = (tmp_path / "x.png").as_uri()
    pixels, _, _, found, fault = _row(uri, Preprocessing(2, 2), Limits())
    assert (pixels, found) == (None, "")
    assert fault.endswith(".")


# What is written of a split


def test_what_is_where_can_be_counted():
    found = images(cat=50, dog=50)
    made = dataset(divide(found, told=seen(found, **{"/data/cat/3.png": ("", "It is empty.")})))
    assert [made.count(split) for split in SPLITS] == [69, 10, 20]
    assert [e.path for e in made.left_out] == ["/data/cat/3.png"]


def test_a_written_split_is_read_back_as_a_split_file(tmp_path):
    found = [
        Example(f"/data/{name}/{n}, (x) \"y\"\n'z'.png", name) for name in ODD_NAMES for n in "123"
    ]
    told = seen(found)
    told[found[0].uri] = told[found[1].uri]
    told[found[4].uri] = ("", "It is cut short.")
    enough = images(**{"red panda": 5, "a, b; c": 5})
    made = divide([*found, *enough], told=told | seen(enough))
    dataset(made).write_split(tmp_path / "split.csv")
    back = Source(split_file=tmp_path / "split.csv").list()
    assert [(e.path, e.label, e.split) for e in back] == [
        (e.path, e.label, e.split) for e in made if e.split
    ]
    assert len(faults(made)) == 2


def test_file_names_that_are_not_utf_8_survive_a_written_split(tmp_path):
    found = [Example(f"/data/{name}/{n}{NOT_UTF_8}", name) for name in ("a", "b") for n in "1234"]
    dataset(divide(found)).write_split(tmp_path / "split.csv")
    assert [e.path for e in Source(split_file=tmp_path / "split.csv").list()] == [
        e.path for e in found
    ]


def test_a_written_split_names_contents_and_faults(tmp_path):
    found = images(cat=3, dog=4)
    told = seen(found, **{"/data/dog/3.png": ("", 'It is "cut", short.')})
    dataset(divide(found, told=told)).write_split(tmp_path / "split.csv")
    lines = (tmp_path / "split.csv").read_text("utf-8").splitlines()
    assert lines[0] == "path,label,split,digest,fault"
    assert lines[1].startswith("/data/cat/0.png,cat,")
    assert lines[1].split(",")[3] == digest("cat/0.png")
    assert lines[-1] == '/data/dog/3.png,dog,,,"It is ""cut"", short."'


def test_copies_are_counted_and_those_that_could_not_be_kept_together():
    found = [
        Example(f"/{n}.png", "cat", str(n), side)
        for n, side in enumerate(["train", "train", "test", "train", "test", "", "train"])
    ]
    groups = {"0": "a", "1": "a", "3": "b", "4": "b", "5": "b"}
    made = Dataset(("cat",), None, found, Preprocessing(8, 8), groups)
    assert made.copies == (2, 2)


def test_no_data_at_all_is_told_as_such():
    with pytest.raises(InputError, match="no images to train on: give --data DIR"):
        Source(()).list()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("path,label\n/a.png,cat\n", "cannot be read: 'split'; train the model anew"),
        ("path,label,split,digest,fault\n/a.png,ca", "is cut short; train the model anew"),
        (f"path,label,split,digest,fault\n{'x' * 200_000}", "cannot be read: field larger than"),
    ],
)
def test_a_written_split_that_is_damaged_is_told(tmp_path, text, told):
    (tmp_path / "split.csv").write_text(text)
    if not told:
        assert read_split(tmp_path / "split.csv") == []
        return
    with pytest.raises(InputError, match=told):
        read_split(tmp_path / "split.csv")
