"""Models that were made elsewhere: served as they answer themselves, asked about, or refused."""

import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sightstream.errors import InputError
from sightstream.images.decode import Preprocessing
from sightstream.models.bring import photographs
from sightstream.models.bring.bring import Wish, bring
from sightstream.models.bring.scale import NAMED, Scale, parse
from sightstream.models.engines import Onnx
from sightstream.models.version import ServedModel
from tests.foreign import save

FOUR = ("a", "b", "c", "d")
UNIT = Wish(FOUR, scale=NAMED["0..1"])


def served(brought):
    model = ServedModel("x", 1, brought.labels, brought.preprocessing, "onnx", brought.content)
    model.check()
    return model


@pytest.mark.parametrize("head", ["softmax", "logits"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8, TensorProto.DOUBLE])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_network_answers_as_its_original(tmp_path, layout, kind, head):
    path = save(tmp_path, layout=layout, kind=kind, head=head)
    found = bring(path, UNIT if kind != TensorProto.UINT8 else Wish(FOUR))
    assert found.difference < 1e-5
    assert found.preprocessing == Preprocessing(16, 20)
    assert served(found).labels == FOUR


def test_a_network_of_half_precision_is_served(tmp_path):
    assert bring(save(tmp_path, kind=TensorProto.FLOAT16), UNIT).difference < 1e-4


def test_logits_of_half_precision_are_served(tmp_path):
    """ONNX Runtime rounds them to 16 bits only where they leave it."""
    model = onnx.load(save(tmp_path, head="logits"))
    for each in model.graph.initializer:
        value = onnx.numpy_helper.to_array(each)
        if value.dtype == np.float32:
            if each.name == "weights":  # large logits that are close together
                value = 100 * value[:, :1] + value
            each.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), each.name))
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, tmp_path / "half.onnx")
    assert bring(tmp_path / "half.onnx", UNIT).difference < 1e-4


@pytest.mark.parametrize("scale", ["0..255", "0..1", "-1..1", "imagenet", "caffe",
                                   "mean=0.5,0.4,0.3 std=0.2,0.3,0.4",
                                   "mean=0.5,0.4,0.3 std=0.2,0.3,0.4 bgr"])  # fmt: skip
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pixels_are_scaled_as_the_network_expects(tmp_path, scale, layout):
    import onnxruntime

    path = save(tmp_path, layout=layout)
    found = bring(path, Wish(FOUR, scale=parse(scale)))
    pixels = photographs.pixels(photographs.crops(5), found.preprocessing)
    x = pixels.astype(np.float64)
    known = {
        "0..255": x, "0..1": x / 255, "-1..1": x / 127.5 - 1,
        "imagenet": (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "caffe": x[..., ::-1] - [103.939, 116.779, 123.68],
        "mean=0.5,0.4,0.3 std=0.2,0.3,0.4 bgr":
            (x[..., ::-1] / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4],
    }  # fmt: skip
    x = known.get(scale, (x / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).astype(np.float32)
    x = x.transpose(0, 3, 1, 2) if layout == "nchw" else x
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"image": x})
    assert np.abs(Onnx(found.content)(pixels) - expected).max() < 1e-4


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_number_of_images_becomes_free(tmp_path, batch, pinned):
    found = bring(save(tmp_path, batch=batch, pinned=pinned), UNIT)
    assert served(found).load()(np.zeros((7, 16, 20, 3), np.uint8)).shape == (7, 4)


@pytest.mark.parametrize("head", ["sigmoid", "logits"])
def test_one_output_is_two_labels(tmp_path, head):
    import onnxruntime

    path = save(tmp_path, outputs=1, head=head)
    found = bring(path, Wish(("no", "yes"), scale=NAMED["0..1"]))
    pixels = photographs.pixels(photographs.crops(6), found.preprocessing)
    x = (pixels / np.float32(255)).transpose(0, 3, 1, 2)
    (p,) = onnxruntime.InferenceSession(path).run(None, {"image": x})
    p = p if head == "sigmoid" else 1 / (1 + np.exp(-p))
    assert np.abs(served(found).load()(pixels)[:, 1:] - p).max() < 1e-5


def test_grey_networks_are_served(tmp_path):
    assert bring(save(tmp_path, channels=1), UNIT).preprocessing.channels == 1


def test_weights_beside_the_file_are_taken_in(tmp_path):
    model = onnx.load(save(tmp_path / "one"))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip
    found = bring(tmp_path / "net.onnx", UNIT)
    assert not any(t.external_data for t in onnx.load_from_string(found.content).graph.initializer)
    served(found)


def test_a_window_and_a_frame_of_dicom_become_part_of_the_version(tmp_path):
    found = bring(save(tmp_path), replace(UNIT, window="lung", frame="middle"))
    assert found.preprocessing == Preprocessing(16, 20, window="lung", frame="middle")


def test_ultralytics_metadata_tell_all(tmp_path):
    names = "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}"
    told = {"author": "Ultralytics", "task": "classify", "names": names,
            "imgsz": "[16, 20]"}  # fmt: skip
    found = bring(save(tmp_path, metadata=told), Wish())
    assert found.labels == FOUR
    assert found.preprocessing == Preprocessing(16, 20, aspect="crop")
    assert "ultralytics' metadata" in found.origin["scale"]


@pytest.mark.parametrize("text", ["[]", "[16, 20, 3]", '["x"]', "{", "[\u00b2, 20]"])
def test_a_size_in_metadata_that_is_none_is_left_alone(tmp_path, text):
    told = {"author": "Ultralytics", "task": "classify", "imgsz": text}
    assert bring(save(tmp_path, metadata=told), Wish(FOUR)).preprocessing.shape == (16, 20, 3)


@pytest.mark.parametrize(
    "wish",
    [Wish(FOUR, (99_999, 8), NAMED["0..1"]), Wish(FOUR, (0, 8), NAMED["0..1"]),
     Wish(FOUR, (16, 20), NAMED["0..1"], crop=1.5), Wish(FOUR, (16, 20), NAMED["0..1"], crop=-1)],
)  # fmt: skip
def test_what_no_picture_can_be_made_for_is_refused_with_what_told_it(tmp_path, wish):
    path = save(tmp_path, size=(None, None))
    with pytest.raises(InputError, match=r"cannot be served: .*\(size from --size, crop from "):
        bring(path, wish)


@pytest.mark.parametrize(
    ("key", "text"),
    [("names", "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}"), ("labels", '["a", "b", "c", "d"]'),
     ("id2label", '{"0": "a", "1": "b", "2": "c", "3": "d"}'), ("character", "a\nb\nc\nd")],
)  # fmt: skip
def test_metadata_of_any_exporter_tell_the_labels(tmp_path, key, text):
    found = bring(save(tmp_path, metadata={key: text}), Wish(scale=NAMED["0..1"]))
    assert found.labels == FOUR
    assert found.origin["labels"] == f"4 labels, from the file's metadata ({key})"


@pytest.mark.parametrize("text", ["person", "{", "{0: 'a', 2: 'b'}", ""])
def test_metadata_that_are_no_labels_are_left_alone(tmp_path, text):
    found = bring(save(tmp_path, metadata={"names": text}), UNIT)
    assert found.origin["labels"] == "4 labels, from --labels"


@pytest.mark.parametrize(
    ("name", "free", "layout"),
    [("x", ["batch_size", "num_channels", "height", "width"], "nchw"),
     ("x", ["n", "h", "w", "channels"], "nhwc"), ("pixel_values", ["n", "c", "h", "w"], "nchw")],
)  # fmt: skip
def test_names_tell_the_layout_where_all_sides_are_free(tmp_path, name, free, layout):
    path = save(tmp_path, name=name, free=free, layout=layout)
    found = bring(path, Wish(FOUR, (16, 20), NAMED["0..1"]))
    assert found.origin["layout"] == f"{layout}, from the names of its input"
    with pytest.raises(InputError, match="contradicts the names"):
        bring(path, Wish(FOUR, (16, 20), NAMED["0..1"], "nhwc" if layout == "nchw" else "nchw"))


def test_what_scales_by_itself_gets_bytes(tmp_path):
    found = bring(save(tmp_path, scaled=1 / 255), Wish(FOUR))
    assert found.origin["scale"] == "0..255, from its first steps (Mul)"


def test_origin_tells_what_was_found_where(tmp_path):
    origin = bring(save(tmp_path), UNIT).origin
    assert origin["size"] == "16x20, from the shape of its input"
    assert origin["layout"] == "nchw, from the shape of its input"
    assert origin["scale"] == "0..1, from --scale"
    assert origin["labels"] == "4 labels, from --labels"
    assert origin["compared_on"] == "48 crops of scikit-learn's sample photographs"
    assert len(origin["sha256"]) == 64
    assert origin["runtime"].startswith("ONNX Runtime ")


YOLO = {"author": "Ultralytics", "task": "detect", "names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}"}
# Wrong range, layout, size and labels, and other tasks: asked for or refused, never served
REFUSED = {
    "shares that are no probabilities": ({"head": "hard"}, UNIT, "neither probabilities nor"),
    "negative logarithms": ({"head": "surprise"}, UNIT, "of which the least is the best"),
    "neither grey nor colour": ({"channels": 2}, UNIT, "neither 1 nor 3 channels"),
    "one output of a hyperbolic tangent": (
        {"head": "tanh", "outputs": 1}, Wish(("no", "yes"), scale=NAMED["0..1"]), "is no logit",
    ),
    "a measurement": (
        {"head": "far", "outputs": 1}, Wish(("no", "yes"), scale=NAMED["0..1"]), "regression",
    ),
    "range not told": ({}, Wish(FOUR), "give --scale, one of 0..255, 0..1, -1..1, imagenet"),
    "range contradicts bytes": ({"kind": TensorProto.UINT8}, UNIT, "--scale 0..1 contradicts"),
    "range contradicts the graph": ({"scaled": 1 / 255}, UNIT, "contradicts its first steps"),
    "range contradicts metadata": (
        {"metadata": YOLO | {"task": "classify"}}, Wish(FOUR, scale=NAMED["imagenet"]),
        "--scale imagenet contradicts ultralytics' metadata",
    ),
    "layout contradicts": ({}, Wish(FOUR, None, NAMED["0..1"], "nhwc"), "--layout nhwc contra"),
    "layout not told": ({"size": (None, None), "channels": 3, "layout": "nhwc", "batch": "n",
                         "free": True}, UNIT, "give --layout nchw"),
    "size contradicts": ({}, Wish(FOUR, (32, 32), NAMED["0..1"]), "--size 32x32 contradicts the"),
    "size not told": ({"size": (None, None)}, UNIT, "give --size HEIGHTxWIDTH"),
    "labels not told": ({}, Wish(scale=NAMED["0..1"]), "give --labels with 4 names"),
    "too few labels": ({}, Wish(FOUR[:3], scale=NAMED["0..1"]), "4 output.*3 label"),
    "labels in another order": (
        {"metadata": {"names": '["a", "b", "c", "d"]'}}, Wish(FOUR[::-1], scale=NAMED["0..1"]),
        "another order than the file's metadata",
    ),
    "labels for an embedding": ({"head": "logits", "outputs": 64}, UNIT, "an embedding"),
    "an embedding of as many": ({"head": "unit"}, UNIT, "this is an embedding"),
    "several labels at once": ({"head": "sigmoid"}, UNIT, "several labels for an image"),
    "detection by its outputs": ({"head": "two"}, UNIT, "has 2 outputs"),
    "detection by its metadata": ({"metadata": YOLO}, Wish(), "for 'detect'"),
    "segmentation": ({"head": "maps"}, UNIT, "detection or segmentation"),
    "not a number": ({"head": "nan"}, UNIT, "NaN or infinity"),
    "empty label": ({}, Wish(("a", " ", "c", "d"), scale=NAMED["0..1"]), "a label is empty"),
    "mean of other channels": ({"channels": 1}, Wish(FOUR, scale=NAMED["imagenet"]), "1 channel"),
}  # fmt: skip


def test_a_damaged_archive_is_one_sentence(tmp_path):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"x": list(range(500))}))
        archive.writestr("metadata.json", "{}")
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.keras"):
        bring(path, UNIT)


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_or_asked_for(tmp_path, case):
    changes, wish, sentence = REFUSED[case]
    changes = dict(changes)
    free = changes.pop("free", False)
    path = save(tmp_path, **changes)
    if free:
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "c"
        onnx.save(model, path)
    with pytest.raises(InputError, match=sentence):
        bring(path, wish)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("m.pt", b"PK\3\4 no zip", "torch.onnx.export"),
        ("m.pth", b"\x80\x02}q\0.", "torch.onnx.export"),
        ("m.joblib", b"\x80\x04.", "runs code"),
        ("m.onnx", b"", "is empty"),
        ("m.onnx", b"\x08\x07garbage\xff\xff", "no ONNX model"),
        ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(20), "tf2onnx.convert --tflite"),
        ("model.json", b'{"format": "graph-model"}', "tf2onnx.convert --tfjs model.json"),
        ("m.safetensors", b"\x08\0\0\0\0\0\0\0{}", "weights without their network"),
        ("m.txt", b"hello there", "no model that can be imported"),
    ],
)
def test_other_files_are_refused_by_their_kind(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        bring(tmp_path / name, UNIT)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="there is no file or folder"):
        bring(tmp_path / "none.onnx", UNIT)


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "link", "none"])
def test_weights_outside_of_the_folder_are_refused(tmp_path, place):
    (tmp_path / "secret").write_bytes(bytes(4096))
    folder = tmp_path / "model"
    model = onnx.load(save(folder))
    (folder / "link").symlink_to(tmp_path / "secret")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="no file in its folder"):
        bring(folder / "net.onnx", UNIT)


@pytest.mark.parametrize("text", ["0-1", "mean=1,2", "mean=a std=b", "mean=123,117,104 std=1,1,1",
                                  "mean=0,0,0 std=0,1,1", "mean=--1 std=1"])  # fmt: skip
def test_a_scale_that_is_none_is_refused(text):
    with pytest.raises(InputError, match=r"--scale|std"):
        parse(text)


def test_a_scale_is_shown_as_it_is_given():
    assert [str(each) for each in NAMED.values()] == list(NAMED)
    assert str(Scale(255, (0.5,), (0.25,))) == "mean=0.5 std=0.25"
    given = "mean=0.4,0.5,0.6 std=1,1,1 bgr"
    assert str(parse(given)) == given


def test_what_the_file_does_not_tell_of_crop_and_filter_is_given(tmp_path):
    path = save(tmp_path)
    found = bring(path, replace(UNIT, crop=0.875, resize="lanczos"))
    assert found.preprocessing == Preprocessing(16, 20, resize="lanczos", crop=0.875)
    assert found.origin["resize"] == "lanczos, from --resize"
    assert bring(path, UNIT).origin["crop"] == "1.0, from our default; --crop"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="is a pipe or a device, and no file or folder"):
        bring(tmp_path / "model.onnx", UNIT)
