"""A model version: its files, labels, preprocessing and checksums; and the engines that run it."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import ModelDamagedError
from sightstream.images.decode import Preprocessing
from sightstream.models.drift import Reference

log = logging.getLogger(__name__)

KERAS_FILE, ONNX_FILE, CARD_FILE = "model.keras", "model.onnx", "version.json"

SPLIT_FILE = "split.csv"
"""Which images a version was trained, validated and tested with; not needed to serve it."""

AGREEMENT = 1e-4
"""The largest difference between the scores of the two files with which `auto` takes ONNX."""

Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pixels, uint8 (n, height, width, channels), to probabilities, float32 (n, labels)."""


@dataclass(frozen=True)
class Card:
    """What is known of a model version; stored beside its files as version.json.

    Attributes:
        labels: the names of the network's outputs, in their order.
        preprocessing: how an image becomes the network's input.
        metrics: the evaluation on images that the training never saw.
        training: the settings it was trained with.
        onnx_difference: the largest difference between the scores of the ONNX and the Keras
            file on evaluation images; None where the network does not export.
        checksums: SHA-256 of each file.
        reference: what its images looked like; None for versions from before there was one.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    metrics: dict[str, float]
    training: dict[str, Any]
    onnx_difference: float | None = None
    checksums: dict[str, str] | None = None
    reference: Reference | None = None


@dataclass(frozen=True)
class ServedModel:
    """A version that is ready to be broadcast: small, picklable, checked.

    Attributes:
        name: its name in the registry.
        version: its number there.
        labels: the names of the network's outputs.
        preprocessing: how an image becomes the network's input.
        engine: what runs it.
        content: the bytes of the file that the engine reads.
        reference: what its training images looked like, if that is known.
    """

    name: str
    version: int
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    engine: Literal["onnx", "keras"]
    content: bytes
    reference: Reference | None = None

    def load(self) -> Engine:
        """Starts the engine: ONNX Runtime in 0.3 s, Keras in 10 s for TensorFlow's import."""
        return _onnx_engine(self.content) if self.engine == "onnx" else _keras_engine(self.content)

    def check(self) -> None:
        """Runs the model once on a grey image.

        Raises:
            ModelDamagedError: it does not load, or does not answer with one probability a label.
        """
        try:
            answer = self.load()(np.full((1, *self.preprocessing.shape), 128, np.uint8))
        except Exception as error:
            raise ModelDamagedError(f"{self} does not run: {_first_line(error)}") from error
        if answer.shape != (1, len(self.labels)):
            raise ModelDamagedError(
                f"{self} answers with shape {answer.shape} for {len(self.labels)} labels"
            )
        if not np.isfinite(answer).all() or abs(float(answer.sum()) - 1) > 1e-3:
            raise ModelDamagedError(f"{self} does not answer with probabilities: {answer[0][:5]}")

    def __str__(self) -> str:
        """Name and version, as in "starter version 3"."""
        return f"{self.name} version {self.version}"


def save(directory: Path, network: Any, card: Card, pixels: NDArray[np.uint8]) -> str:
    """Writes a version's files.

    Args:
        directory: where to, created if absent.
        network: a Keras model from uint8 pixels (n, height, width, channels) to probabilities.
        card: labels, preprocessing, metrics and training settings.
        pixels: evaluation images on which the two files are compared.

    Returns:
        The SHA-256 of version.json, which holds those of the other files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / KERAS_FILE)
    difference = _export_onnx(network, directory / ONNX_FILE, pixels)
    files = [KERAS_FILE, *([ONNX_FILE] if difference is not None else [])]
    card = replace(
        card, onnx_difference=difference, checksums={f: sha256(directory / f) for f in files}
    )
    (directory / CARD_FILE).write_text(json.dumps(asdict(card), indent=2) + "\n")
    return sha256(directory / CARD_FILE)


def describe(directory: Path, metrics: dict[str, float], reference: Reference) -> str:
    """Writes what only the saved model can tell onto the card that `save` wrote.

    Returns:
        The SHA-256 of version.json.
    """
    path = directory / CARD_FILE
    told = {"metrics": metrics, "reference": asdict(reference)}
    path.write_text(json.dumps({**json.loads(path.read_text()), **told}, indent=2))
    return sha256(path)


def read_card(directory: Path, digest: str) -> Card:
    """Reads a version's card after every file has been compared with its checksum.

    Args:
        directory: the version's files.
        digest: the SHA-256 of version.json, as the registry knows it.

    Raises:
        ModelDamagedError: a file is missing or is not the one that was registered.
    """
    _verify(directory / CARD_FILE, digest)
    fields = json.loads((directory / CARD_FILE).read_text())
    card = Card(
        **{
            **fields,
            "labels": tuple(fields["labels"]),
            "preprocessing": Preprocessing(**fields["preprocessing"]),
            "reference": (told := fields.get("reference")) and Reference.from_json(told),
        }
    )
    for name, checksum in (card.checksums or {}).items():
        _verify(directory / name, checksum)
    return card


def serve(
    directory: Path, name: str, version: int, digest: str, engine: Literal["auto", "onnx", "keras"]
) -> ServedModel:
    """Reads a version, checks it, and chooses its engine.

    Args:
        directory: the version's files.
        name: its name in the registry.
        version: its number there.
        digest: the SHA-256 of version.json, as the registry knows it.
        engine: `auto` takes ONNX where its answers agree with Keras to `AGREEMENT`.

    Raises:
        ModelDamagedError: a checksum is wrong, or the model does not answer as it must.
    """
    card = read_card(directory, digest)
    if engine == "auto":
        agrees = card.onnx_difference is not None and card.onnx_difference <= AGREEMENT
        engine = "onnx" if agrees else "keras"
    if engine == "onnx" and card.onnx_difference is None:
        raise ModelDamagedError(f"{name} version {version} has no ONNX file; set engine to auto")
    content = (directory / (ONNX_FILE if engine == "onnx" else KERAS_FILE)).read_bytes()
    model = ServedModel(
        name, version, card.labels, card.preprocessing, engine, content, card.reference
    )
    model.check()
    return model


def import_keras() -> Any:
    """Keras with TensorFlow, without its start-up messages; the first call takes 8 s.

    Keras also imports scikit-learn and Matplotlib, for wrappers that are not used here. Without
    these, and without the collector looking at each new module's objects, it takes a third less.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    absent = set() if "keras" in sys.modules else {"matplotlib", "sklearn"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    gc.disable()
    try:
        import keras
        import tensorflow  # noqa: F401
    finally:
        gc.enable()
        for name in absent:
            del sys.modules[name]
    return keras


def _onnx_engine(content: bytes) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # An arena keeps the largest batch's memory for ever, in every worker.
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: np.asarray(session.run(None, {name: pixels})[0], np.float32)


def load_keras(path: Path) -> Any:
    """The Keras model of a file, in safe mode, uncompiled."""
    return import_keras().saving.load_model(path, safe_mode=True, compile=False)


def _keras_engine(content: bytes) -> Engine:
    import_keras()
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / KERAS_FILE
        path.write_bytes(content)
        network = load_keras(path)
    # A traced function with a fixed signature answers ten times as fast as network.predict.
    signature = tf.TensorSpec(network.input_shape, network.inputs[0].dtype)
    run = tf.function(lambda pixels: network(pixels, training=False), input_signature=[signature])
    return lambda pixels: np.asarray(run(tf.constant(pixels)), np.float32)


def _export_onnx(network: Any, path: Path, pixels: NDArray[np.uint8]) -> float | None:
    expected = network.predict(pixels, verbose=0)  # only what has been called once is exported
    try:
        network.export(path, format="onnx", verbose=False)
        answers = _onnx_engine(path.read_bytes())(pixels)
    except Exception as error:
        log.warning("no ONNX file, Keras will serve it: %s", _first_line(error))
        path.unlink(missing_ok=True)
        return None
    return float(np.abs(answers - expected).max())


def _verify(path: Path, checksum: str) -> None:
    try:
        actual = sha256(path)
    except OSError as error:
        raise ModelDamagedError(f"{path} cannot be read: {error.strerror}") from None
    if actual != checksum:
        raise ModelDamagedError(
            f"{path} is not the file that was registered: its SHA-256 is {actual[:12]}..., "
            f"not {checksum[:12]}..."
        )


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
