"""Models as other tools make them, of which one file is mutated."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from tests import foreign

_CONFIG = {
    "architectures": ["MobileNetV2ForImageClassification"],
    "id2label": {str(n): label for n, label in enumerate("abcd")},
}
_PREPROCESSOR = {
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_normalize": True,
    "do_rescale": True, "rescale_factor": 1 / 255, "resample": 2, "do_center_crop": True,
    "size": {"height": 16, "width": 20}, "crop_size": {"height": 16, "width": 20},
    "image_processor_type": "MobileNetV2ImageProcessor",
}  # fmt: skip
_TIMM = {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 16, 20],
                            "crop_pct": 0.9, "interpolation": "bicubic"}}  # fmt: skip
_MLMODEL = "flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.18.0\nmodel_uuid: x\n"


def light() -> dict[str, list[bytes]]:
    """Contents of files that are read without TensorFlow."""
    metadata = {"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", "author": "Ultralytics",
                "task": "classify", "imgsz": "[16, 20]"}  # fmt: skip
    networks = [
        foreign.onnx_model(metadata=metadata), foreign.onnx_model(layout="nhwc", head=None),
        foreign.onnx_model(batch=1, pinned=True), foreign.onnx_model(kind=10),
    ]  # fmt: skip
    return {
        "onnx": [each.SerializeToString() for each in networks],
        "config": [json.dumps(each).encode() for each in (_CONFIG, _CONFIG | _TIMM)],
        "preprocessor": [json.dumps(_PREPROCESSOR).encode()],
        "mlmodel": [_MLMODEL.encode()],
        "labels": [b"0 a\n1 b\n2 c\n3 d\n"],
        "zip": [_zipped({"net/config.json": json.dumps(_CONFIG).encode(),
                         "net/model.onnx": _network()})],
    }  # fmt: skip


def heavy() -> dict[str, list[bytes]]:
    """Contents of files that Keras and TensorFlow read."""
    from sightstream.models.engines import import_keras

    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential([
        keras.Input((16, 20, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(4, "softmax"),
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("keras", "h5"):
            network.save(Path(folder, f"m.{suffix}"))
        network.export(Path(folder, "saved"), verbose=False)
        whole = Path(folder, "m.keras").read_bytes()
        members = zipfile.ZipFile(io.BytesIO(whole))
        return {
            "keras": [whole],
            "keras config": [members.read("config.json")],
            "keras weights": [members.read("model.weights.h5")],
            "h5": [Path(folder, "m.h5").read_bytes()],
            "graph": [Path(folder, "saved", "saved_model.pb").read_bytes()],
        }


def _network() -> bytes:
    made: bytes = foreign.onnx_model().SerializeToString()
    return made


@cache
def keras_file() -> bytes:
    """A Keras file, the same for all that one member of it is put into."""
    return heavy()["keras"][0]


def _zipped(files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(held := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def written(folder: Path, kind: str, data: bytes) -> Path:
    """Write a model one of whose files has this content; return its path."""
    files = {
        "onnx": {"net.onnx": data},
        "config": {"config.json": data, "model.onnx": _network()},
        "preprocessor": {"config.json": json.dumps(_CONFIG).encode(),
                         "preprocessor_config.json": data, "model.onnx": _network()},
        "mlmodel": {"MLmodel": data, "model.onnx": _network()},
        "labels": {"labels.txt": data, "net.onnx": _network()},
        "zip": {"net.zip": data}, "keras": {"net.keras": data}, "h5": {"net.h5": data},
        "graph": {"saved_model.pb": data},
    }.get(kind)  # fmt: skip
    if files is None:  # of a member of a Keras file
        members = zipfile.ZipFile(io.BytesIO(keras_file()))
        inner = {each: members.read(each) for each in members.namelist()}
        inner["config.json" if kind == "keras config" else "model.weights.h5"] = data
        files = {"net.keras": _zipped(inner)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / next(iter(files)) if len(files) == 1 and kind != "graph" else folder
