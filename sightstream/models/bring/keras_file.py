"""A Keras file: `.keras`, or `.h5` of Keras 1, 2 and 3. Code inside of it never runs."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sightstream.errors import InputError, first_line
from sightstream.models.bring import archive
from sightstream.models.bring.foreign import Fact, Facts, Foreign
from sightstream.models.bring.scale import NAMED
from sightstream.models.bring.tensorflow_graph import to_onnx
from sightstream.models.engines import import_keras, load_keras

_REFUSED = {
    "Lambda": "a Lambda layer, which is code",
    "__lambda__": "a lambda, which is code",
    "function": "a function of its own, which is code",
    "TFSMLayer": "a layer that loads another model",
    "TorchModuleWrapper": "a layer that holds a pickle",
    "JaxLayer": "a layer that holds code",
    "FlaxLayer": "a layer that holds code",
    "StringLookup": "a layer for text",
    "TextVectorization": "a layer for text",
}
_OPERATIONS = ("math.", "nn.", "__operators__.", "keras.activations.", "image.resize", "linalg.")
_OPERATION_NAMES = {
    "cast", "reshape", "transpose", "concat", "expand_dims", "squeeze", "convert_to_tensor",
    "clip_by_value", "pad", "stack", "unstack", "split", "shape", "identity", "compat.v1.transpose",
    "compat.v1.shape", "compat.v1.nn.avg_pool", "reverse", "slice", "strided_slice", "tile",
}  # fmt: skip
"""Operations of TensorFlow that a layer of Keras 2 may name: those that only calculate."""

_WITHOUT_WEIGHTS = {"InputLayer", "ZeroPadding2D", "Resizing", "CenterCrop", "Dropout"}


def read(path: Path, size: tuple[int, int] | None = None) -> Foreign:
    """Read a file with the newest Keras, or one that only Keras 2 opens with tf-keras."""
    config = _config(path)
    for each in _objects(config):
        if reason := _refusal(each):
            raise InputError(
                f"{path} holds {reason}; build the network of Keras' own layers, or export it "
                "where its code is: model.export('model.onnx', format='onnx')"
            )
    network, name = _loaded(path, config)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise InputError(
            f"{path} has {len(network.inputs)} inputs and {len(network.outputs)} outputs; a "
            "classifier of images has one of each"
        )
    shape = _shape(path, network, size)
    kind = network.inputs[0].dtype
    kind = getattr(kind, "name", kind)
    model, answer = to_onnx(lambda x: network(x, training=False), shape, kind)
    facts: Facts = {"layout": Fact("nhwc", "Keras"), **_range(network)}
    if size and None in tuple(network.inputs[0].shape)[1:3]:
        facts["size"] = Fact(size, "--size")
    return Foreign("Keras", model, answer, name, facts)


def _config(path: Path) -> Any:
    """The description of the network, as JSON: read without Keras."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                archive.require_safe(path, file.infolist())
                return json.loads(file.read("config.json"))
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no Keras model: {first_line(error)}") from None
    if text is None:
        raise InputError(
            f"{path} holds weights without their network; save the whole: model.save('m.keras')"
        )
    return json.loads(text)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)


def _refusal(described: dict[str, Any]) -> str:
    """Why an object must not be built; empty where it may."""
    name, module = str(described["class_name"]), described.get("module")
    registered = str(described.get("registered_name") or "")
    if reason := _REFUSED.get(name):
        return reason
    if name in ("TFOpLambda", "SlicingOpLambda"):
        operation = str((described.get("config") or {}).get("function", ""))
        if operation not in _OPERATION_NAMES and not operation.startswith(_OPERATIONS):
            return f"the operation {operation!r} of TensorFlow, which is not allowed"
        return ""
    own = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins", "tf_keras")
    if own or ">" in name or (">" in registered and not registered.startswith("keras")):
        return f"the custom object {name!r}, which is code"
    return ""


def _loaded(path: Path, config: Any) -> tuple[Any, str]:
    keras = import_keras()
    with tempfile.TemporaryDirectory() as folder:
        suffix = ".keras" if zipfile.is_zipfile(path) else ".h5"
        copy = Path(folder) / f"model{suffix}"
        shutil.copyfile(path, copy)  # Keras goes by the name.
        if suffix == ".h5":
            _mend(copy, config)
        try:
            network = load_keras(copy)
            if network.built and network.inputs:
                return network, f"Keras {keras.__version__}"
            error: Exception = ValueError("it was saved before it was built")
        except Exception as found:  # Keras raises nearly everything on files of other versions
            error = found
        if suffix == ".keras" and not _saved_by(path).startswith("2."):
            raise InputError(
                f"Keras {keras.__version__} does not open {path}: {first_line(error)[:300]}"
            )
        return _loaded_by_keras_2(path, folder, suffix, error)


def _saved_by(path: Path) -> str:
    """The version of Keras that wrote a `.keras` file."""
    try:
        with zipfile.ZipFile(path) as file:
            return str(json.loads(file.read("metadata.json"))["keras_version"])
    except (OSError, KeyError, ValueError, TypeError, RecursionError, zipfile.BadZipFile):
        return ""


def _mend(copy: Path, config: Any) -> None:
    """Bring what Keras 3 does not know into its form."""
    import h5py

    for each in _objects(config):
        inner = each.get("config")
        if not isinstance(inner, dict):
            continue
        if each["class_name"] == "DepthwiseConv2D":
            inner.pop("groups", None)
        if each["class_name"] == "InputLayer" and "batch_input_shape" in inner:
            inner["batch_shape"] = inner.pop("batch_input_shape")
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs.pop("training_config", None)


def _loaded_by_keras_2(
    path: Path, folder: str, suffix: str, error: Exception
) -> tuple[Any, str]:  # fmt: skip
    if find_spec("tf_keras") is None:
        raise InputError(
            f"Keras 3 does not open {path} ({first_line(error)[:120]}); Keras 2 may: "
            "pip install 'sightstream[keras2]'"
        ) from error
    import tf_keras

    copy = Path(folder) / f"keras2{suffix}"
    shutil.copyfile(path, copy)
    try:
        network = tf_keras.models.load_model(copy, compile=False, safe_mode=True)
    except Exception as found:
        raise InputError(
            f"neither Keras 3 nor Keras 2 opens {path}: {first_line(error)[:200]}; "
            f"{first_line(found)[:200]}"
        ) from found
    return network, f"tf-keras {tf_keras.__version__}"


def _shape(
    path: Path, network: Any, size: tuple[int, int] | None
) -> tuple[int | None, int | None, int | None, int | None]:
    shape = tuple(network.inputs[0].shape)
    if len(shape) != 4:
        raise InputError(f"{path} takes {len(shape)} dimensions; images have 4")
    height, width = size or (None, None)
    return shape[0], shape[1] or height, shape[2] or width, shape[3]


def _range(network: Any) -> Facts:
    """The range of pixels, where the first layers scale by themselves."""
    for layer in _layers(network):
        name = type(layer).__name__
        if name == "Rescaling":
            factor = np.abs(np.asarray(layer.scale, float)).max()
            if factor <= 0.1:
                return {"scale": Fact(NAMED["0..255"], "a Rescaling layer")}
        elif name == "Normalization":
            if np.abs(np.asarray(layer.mean, float)).max() >= 2:
                return {"scale": Fact(NAMED["0..255"], "a Normalization layer")}
        elif name not in _WITHOUT_WEIGHTS and not name.startswith("Random"):
            break
    return {}


def _layers(network: Any) -> Iterator[Any]:
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer
