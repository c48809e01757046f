"""Engines that run a version's file; packages add others as entry points `sightstream.engines`."""

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sightstream import plugins
from sightstream.errors import ConfigError, EnvironmentUnfitError, first_line

Predict: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From pixels (n, height, width, channels) to probabilities (n, labels)."""


FASTER = ("int8", "openvino", "openvino-int8", "openvino-bf16")
"""Engines that `optimise` tries, in this order."""

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Engine(Protocol):
    """A loaded model; `file` is the name of what it runs in a version's folder."""

    file: ClassVar[str]

    def __init__(self, content: bytes) -> None:
        """Load the content of `file`, which is untrusted: code in it must not run."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, labels) for pixels (n, height, width, channels)."""


class Onnx:
    """ONNX Runtime on one thread, or on a GPU; its import takes 0.3 s and 64 MB."""

    file: ClassVar[str] = "model.onnx"

    def __init__(self, content: bytes, device: str = "auto") -> None:
        """Load a graph; `device` is auto, cpu or cuda.

        Raises:
            EnvironmentUnfitError: CUDA is asked for, and there is none.
        """
        import onnxruntime

        chosen = providers(device, onnxruntime.get_available_providers(), gpus())
        if len(chosen) > 1:
            onnxruntime.preload_dlls()  # of the packages of CUDA in this environment
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=chosen)
        if device == "cuda" and _CUDA not in self._session.get_providers():
            raise EnvironmentUnfitError(
                "ONNX Runtime does not start on the GPU: CUDA or cuDNN is missing or of another "
                "version; install those that its release notes name, or set device to auto"
            )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine` describes."""
        return np.asarray(self._session.run(None, {self._input: pixels})[0], np.float32)


class Int8(Onnx):
    """ONNX Runtime on a graph that calculates with eight bits, as `optimise` makes it."""

    file: ClassVar[str] = "model.int8.onnx"


class OpenVino:
    """OpenVINO on one thread, with 32 bits."""

    file: ClassVar[str] = Onnx.file
    precision: ClassVar[str] = "f32"

    def __init__(self, content: bytes) -> None:
        import openvino

        core = openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": self.precision,
        }  # fmt: skip
        compiled = core.compile_model(core.read_model(content), "CPU", options)
        self._request = compiled.create_infer_request()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine` describes."""
        return np.array(self._request.infer({0: pixels})[0], np.float32)


class OpenVinoInt8(OpenVino):
    """OpenVINO on the graph of `Int8`."""

    file: ClassVar[str] = Int8.file


class OpenVinoBf16(OpenVino):
    """OpenVINO with bfloat16, for processors that calculate with it."""

    precision: ClassVar[str] = "bf16"


def providers(device: str, installed: Sequence[str], gpus: Sequence[int]) -> list[Any]:
    """Return the providers for a session of ONNX Runtime, in the order of preference.

    Processes are spread over the GPUs: each has one session, on one GPU.

    Raises:
        EnvironmentUnfitError: CUDA is asked for, and there is none.
    """
    if device == "cuda" and _CUDA not in installed:
        raise EnvironmentUnfitError(
            f"device is cuda, and ONNX Runtime was installed without {_CUDA}; install "
            "onnxruntime-gpu in place of onnxruntime, or set device to auto"
        )
    if device == "cuda" and not gpus:
        raise EnvironmentUnfitError("device is cuda, and there is no GPU; set device to auto")
    if device == "cpu" or _CUDA not in installed or not gpus:
        return [_CPU]
    number = os.getpid() % len(gpus)
    return [(_CUDA, {"device_id": number, "arena_extend_strategy": "kSameAsRequested"}), _CPU]


def gpus() -> list[int]:
    """Return the numbers of the GPUs of this machine that CUDA shows to this process."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:  # dxg is that of Windows' subsystem
        found: Sequence[object] = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]
    else:
        found = [each for each in shown.split(",") if each.strip() not in {"", "-1"}]
    return [*range(len(found))]


class Keras:
    """Keras in safe mode on TensorFlow, whose import takes 8 s and 690 MB."""

    file: ClassVar[str] = "model.keras"

    def __init__(self, content: bytes) -> None:
        import_keras()
        import tensorflow as tf

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.file
            path.write_bytes(content)
            network = load_keras(path)
        pixels = tf.TensorSpec(network.input_shape, network.inputs[0].dtype)
        self._constant = tf.constant
        # Ten times as fast as `network.predict`.
        self._run = tf.function(lambda x: network(x, training=False), input_signature=[pixels])

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine` describes."""
        return np.asarray(self._run(self._constant(pixels)), np.float32)


def engine(name: str) -> type[Engine]:
    """Return the engine of a name; ConfigError where no installed package has it."""
    engines = installed()
    if name not in engines:
        raise ConfigError(f"there is no engine {name!r}; there are: auto, {', '.join(engines)}")
    return engines[name]


def usable(name: str) -> bool:
    """Tell whether the package that an engine needs is installed."""
    return not name.startswith("openvino") or find_spec("openvino") is not None


@cache
def installed() -> dict[str, type[Engine]]:
    """Return all engines by name; ours also where sightstream is on the path, not installed."""
    ours: dict[str, type[Engine]] = {
        "onnx": Onnx, "int8": Int8, "openvino": OpenVino, "openvino-int8": OpenVinoInt8,
        "openvino-bf16": OpenVinoBf16, "keras": Keras,
    }  # fmt: skip
    return ours | plugins.installed("sightstream.engines")


def import_keras() -> Any:
    """Import Keras with TensorFlow, without start-up messages; the first call takes 8 s.

    Keras also imports scikit-learn and Matplotlib, for wrappers that are not used here. Without
    these and the garbage collector it takes 3.0 s of a core instead of 5.5.

    A user's variables and keras.json may choose otherwise; where nothing else has imported Keras,
    our models get what they are made for.

    Raises:
        EnvironmentUnfitError: Keras does not start, or was imported with another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if first := "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
    gc.disable()
    try:
        with hidden("matplotlib", "sklearn"):
            import keras
            import tensorflow  # noqa: F401
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        folder = os.environ.get("KERAS_HOME", "~/.keras")
        raise EnvironmentUnfitError(
            f"Keras does not start ({first_line(error)}); correct or remove {folder}/keras.json"
        ) from error
    finally:
        gc.enable()
    if first:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
    if (backend := keras.config.backend()) != "tensorflow":
        raise EnvironmentUnfitError(
            f"this process has imported Keras with the backend {backend}; set KERAS_BACKEND to "
            "tensorflow before that"
        )
    return keras


@contextmanager
def hidden(*modules: str) -> Iterator[None]:
    """Hide modules from imports until the block ends, as if they were not installed."""
    absent = set(modules) - sys.modules.keys()
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def load_keras(path: Path) -> Any:
    """Read a Keras model in safe mode, uncompiled."""
    return import_keras().saving.load_model(path, safe_mode=True, compile=False)
