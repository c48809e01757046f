"""Folders and archives of models: what describes them is used, what is not safe is refused."""

import json
import shutil
import stat
import zipfile

import numpy as np
import onnx
import pytest

from sightstream.errors import InputError
from sightstream.images.decode import Preprocessing
from sightstream.models.bring import archive, folders, labels
from sightstream.models.bring.bring import Wish, bring
from sightstream.models.bring.scale import NAMED, Scale
from tests.foreign import save

FOUR = ("a", "b", "c", "d")
NAMES = {"id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}}
VIT = {
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "resample": 3,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
    "size": {"height": 16, "width": 20},
}  # fmt: skip


def described(folder, config, preprocessor=None, place="model.onnx", **changes):
    path = save(folder, **changes)
    (folder / place).parent.mkdir(exist_ok=True)
    path.rename(folder / place)
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx", "other.onnx"])
def test_a_hugging_face_folder_tells_all(tmp_path, place):
    found = bring(described(tmp_path, NAMES, VIT, place), Wish())
    assert found.labels == FOUR
    assert found.preprocessing == Preprocessing(16, 20, resize="bicubic")
    assert (
        "mean=0.5,0.4,0.3 std=0.2,0.3,0.4, from preprocessor_config.json" in found.origin["scale"]
    )
    assert found.origin["kind"] == "Hugging Face, ONNX"


@pytest.mark.parametrize(
    ("told", "size", "aspect", "crop"),
    [
        ({"size": 224}, (224, 224), "stretch", 1.0),
        ({"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": 224},
         (224, 224), "stretch", 0.875),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True,
          "crop_size": {"height": 224, "width": 224}}, (224, 224), "crop", 0.875),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), "crop", 0.875),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": False},
         (256, 256), "crop", 1.0),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), "stretch", 1.0),
        ({"size": 224, "crop_pct": 0.875, "feature_extractor_type": "ConvNextFeatureExtractor"},
         (224, 224), "crop", 0.875),
        ({"size": 224, "crop_size": 224, "do_center_crop": True,
          "feature_extractor_type": "CLIPFeatureExtractor"}, (224, 224), "crop", 1.0),
        ({"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224},
          "do_center_crop": True, "image_processor_type": "LevitImageProcessor"},
         (224, 224), "crop", 0.875),
        ({"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224},
          "do_center_crop": True, "crop_pct": 0.9,
          "image_processor_type": "PoolFormerImageProcessor"},
         (224, 224), "crop", 0.9),
    ],
)  # fmt: skip
def test_preprocessors_tell_size_and_crop(told, size, aspect, crop):
    facts = folders._preprocessor(told)
    assert (facts["size"].value, facts["aspect"].value) == (size, aspect)
    assert facts["crop"].value == crop


@pytest.mark.parametrize(
    ("told", "scale"),
    [
        ({}, NAMED["0..1"]),
        ({"do_rescale": False}, NAMED["0..255"]),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, Scale(255, (0.5,) * 3, (0.5,) * 3)),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": False}, NAMED["0..1"]),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, NAMED["-1..1"]),
        ({"do_flip_channel_order": True}, Scale(255, bgr=True)),
        (
            {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "include_top": True},
            Scale(255, (0.5,) * 3, (0.25,) * 3),
        ),
    ],
)
def test_preprocessors_tell_the_range(told, scale):
    assert folders._preprocessor(told)["scale"].value == scale


def test_timm_tells_all(tmp_path):
    told = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "input_size": [3, 16, 20],
            "crop_pct": 0.9, "interpolation": "bicubic"}  # fmt: skip
    config = {"architecture": "x", "pretrained_cfg": told, "label_names": list(FOUR)}
    found = bring(described(tmp_path, config), Wish())
    assert found.labels == FOUR
    assert found.preprocessing == Preprocessing(16, 20, resize="bicubic", aspect="crop", crop=0.9)


def test_a_folder_of_weights_alone_is_told_how_to_export(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(NAMES))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="optimum-cli export onnx"):
        bring(tmp_path, Wish())


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"architectures": ["DetrForObjectDetection"]}, "the architecture DetrForObjectDetection"),
        ({"architectures": ["SegformerForSemanticSegmentation"]}, "SegformerForSemantic"),
        ({"problem_type": "multi_label_classification"}, "several labels for an image"),
    ],
)
def test_a_description_of_another_task_is_refused(tmp_path, told, sentence):
    with pytest.raises(InputError, match=sentence):
        bring(described(tmp_path, NAMES | told, VIT), Wish())


@pytest.mark.parametrize(
    "name", ["ViTForImageClassification", "DeiTForImageClassificationWithTeacher"]
)
def test_a_description_of_a_classifier_is_none_of_another_task(tmp_path, name):
    bring(described(tmp_path, NAMES | {"architectures": [name]}, VIT), Wish())


@pytest.mark.parametrize("files", [["model.json", "metadata.json"], ["model.json"], ["m.tflite"]])
def test_a_folder_for_browsers_and_telephones_is_told_how_to_convert(tmp_path, files):
    for name in files:
        (tmp_path / name).write_bytes(b"\x1c\0\0\0TFL3" if name == "m.tflite" else b"{}")
    with pytest.raises(InputError, match=r"Export Model, Tensorflow, Keras.*tf2onnx.convert --tf"):
        bring(tmp_path, Wish())


def test_labels_beside_a_model_are_read(tmp_path):
    save(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    found = bring(tmp_path, Wish(scale=NAMED["0..1"]))
    assert found.labels == FOUR
    assert found.origin["labels"] == "4 labels, from labels.txt"


def test_a_file_that_contradicts_its_description_is_refused(tmp_path):
    wrong = VIT | {"size": {"height": 32, "width": 32}}
    with pytest.raises(InputError, match="contradicts itself"):
        bring(described(tmp_path, NAMES, wrong), Wish())


@pytest.mark.parametrize("content", ["[]", "{", "\xff", '{"a":' * 5000])
def test_a_damaged_description_is_refused(tmp_path, content):
    described(tmp_path, NAMES)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config.json"):
        bring(tmp_path, Wish())


def mlmodel(folder, flavours):
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavours}))  # YAML too
    return folder


def test_an_mlflow_model_of_onnx_is_read(tmp_path):
    save(tmp_path / "m").rename(tmp_path / "m" / "model.onnx")
    folder = mlmodel(tmp_path / "m", {"onnx": {"data": "model.onnx"}, "python_function": {}})
    found = bring(folder, Wish(FOUR, scale=NAMED["0..1"]))
    assert found.origin["kind"] == "MLflow, ONNX"


@pytest.mark.parametrize(
    ("flavours", "sentence"),
    [
        ({"pytorch": {}, "python_function": {}}, "flavour.s. pytorch, python_function"),
        ({"onnx": {"data": "../secret.onnx"}}, "leads out of its folder"),
        ({"onnx": {"data": "none.onnx"}}, "holds no model"),
        (None, "cannot be read"),
    ],
)
def test_other_mlflow_models_are_refused(tmp_path, flavours, sentence):
    with pytest.raises(InputError, match=sentence):
        bring(mlmodel(tmp_path / "m", flavours), Wish())


def test_an_mlmodel_never_makes_objects(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: !!python/object/apply:os.system ['touch made']")
    with pytest.raises(InputError, match="cannot be read"):
        bring(tmp_path, Wish())


# Archives


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_an_archive_of_a_folder_is_read(tmp_path):
    described(tmp_path / "m" / "inner", NAMES, VIT)
    shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path / "m")
    assert bring(tmp_path / "model.zip", Wish()).labels == FOUR


@pytest.mark.parametrize(
    "name", ["../out.txt", "/etc/out.txt", "a/../../out", "..\\out", "C:\\out"]
)
def test_paths_that_leave_an_archive_are_refused(tmp_path, name):
    path = zipped(tmp_path / "m.zip", {"labels.txt": "a", name: "x"})
    with pytest.raises(InputError, match="leads out of the archive"):
        bring(path, Wish())
    assert [each.name for each in tmp_path.iterdir()] == ["m.zip"]


def test_a_link_in_an_archive_is_refused(tmp_path):
    link = zipfile.ZipInfo("labels.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InputError, match="holds the link"):
        bring(zipped(tmp_path / "m.zip", {link: "/etc/passwd"}), Wish())


def test_an_archive_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    path = zipped(tmp_path / "m.zip", {"labels.txt": bytes(2**21)})
    assert path.stat().st_size < 2**14
    with pytest.raises(InputError, match="would expand to"):
        bring(path, Wish())


def test_a_torch_archive_is_a_pickle(tmp_path):
    with pytest.raises(InputError, match=r"torch.onnx.export"):
        bring(zipped(tmp_path / "model", {"m/data.pkl": "x"}), Wish())


@pytest.mark.parametrize("members", [{"x.txt": "x"}, {"labels.txt": "0 a\n1 b"}])
def test_an_archive_without_a_model_is_refused(tmp_path, members):
    with pytest.raises(InputError, match=r"no model|without keras_model.h5"):
        bring(zipped(tmp_path / "m.zip", members), Wish())


# Labels


@pytest.mark.parametrize(
    "text",
    ["a\nb\nc\n", "0 a\n1 b\n2 c", "0: a\n1: b\n2: c\n", '["a", "b", "c"]', "\n a\n\nb \r\nc",
     '{"0": "a", "1": "b", "2": "c"}', '{"a": 0, "b": 1, "c": 2}'],
)  # fmt: skip
def test_files_of_labels_are_read(tmp_path, text):
    (tmp_path / "l.txt").write_text(text)
    assert labels.given(str(tmp_path / "l.txt")) == ("a", "b", "c")


def test_labels_that_are_neither_json_nor_lines_are_told(tmp_path):
    (tmp_path / "l.txt").write_text('["a",\n"b"')
    with pytest.raises(InputError, match="are read as JSON, and these are no list of it"):
        labels.given(str(tmp_path / "l.txt"))
    assert labels.from_metadata('["a",\n"b"') is None


def test_labels_that_occur_twice_get_their_number():
    assert labels.distinct(("crane", "b", "crane")) == ("crane (0)", "b", "crane (2)")


def test_labels_that_are_nested_without_end_are_no_list(tmp_path):
    (tmp_path / "l.txt").write_text("[" * 100_000)
    with pytest.raises(InputError, match="are no list of it"):
        labels.given(str(tmp_path / "l.txt"))


@pytest.mark.parametrize("text", ["none.txt", "x" * 5000])
def test_a_missing_file_of_labels_is_said(text):
    with pytest.raises(InputError, match=r"--labels takes a file or names"):
        labels.given(text)


def test_the_folder_stays_as_it_was(tmp_path):
    described(tmp_path / "m", NAMES, VIT)
    before = sorted(tmp_path.rglob("*"))
    bring(tmp_path / "m", Wish())
    assert sorted(tmp_path.rglob("*")) == before
    assert np.isfinite(onnx.load(tmp_path / "m" / "model.onnx").ir_version)
