"""A model version: its files, their checksums, its labels and preprocessing."""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import EnvironmentUnfitError, ModelDamagedError, first_line
from sightstream.images.decode import Preprocessing
from sightstream.models import engines
from sightstream.models.drift import Reference
from sightstream.models.engines import Keras, Onnx
from sightstream.models.pace import Paced, fitting

log = logging.getLogger(__name__)

CARD_FILE = "version.json"

SPLIT_FILE = "split.csv"
"""File that lists the images of training, validation and test; serving does not need it."""

AGREEMENT = 1e-4
"""Largest difference between the scores of both files at which `auto` chooses ONNX."""


@dataclass(frozen=True)
class Card:
    """Description of a model version, stored beside its files as version.json.

    `onnx_difference` is the largest difference between the scores of the ONNX and the Keras file
    on evaluation images (of other versions, that between it and what it was made from); None where
    there is no ONNX file. `origin` tells of an imported model: the file it came from, and where
    each fact about it was found; or of a registered featuriser inside. Else it is None.
    """

    labels: tuple[str, ...]  # names of the network's outputs, in order
    preprocessing: Preprocessing
    metrics: dict[str, float]  # results on images that the training did not use
    training: dict[str, Any]  # settings of the training
    onnx_difference: float | None = None
    checksums: dict[str, str] | None = None  # SHA-256 of each file that an engine reads
    reference: Reference | None = None  # for drift; None in versions of early releases
    origin: dict[str, Any] | None = None


@dataclass(frozen=True)
class ServedModel:
    """A version that is checked and ready to be broadcast: small and picklable.

    The fields are those of `Card`, its name and number in the registry (0 for a version that is
    not registered), and its engine's name with the content of the file that the engine reads.
    """

    name: str
    version: int
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    engine: str
    content: bytes
    reference: Reference | None = None
    device: str = "auto"

    def load(self) -> Paced:
        """Start the engine: ONNX Runtime in 0.3 s, Keras in 10 s."""
        most = fitting(self.preprocessing.height, self.preprocessing.width)
        engine = engines.engine(self.engine)
        device = {"device": self.device} if issubclass(engine, Onnx) else {}
        return Paced(engine(self.content, **device), most)

    def check(self) -> None:
        """Run on a grey image; ModelDamagedError where it answers without proper probabilities."""
        try:
            answer = self.load()(np.full((1, *self.preprocessing.shape), 128, np.uint8))
        except (ModuleNotFoundError, EnvironmentUnfitError):  # an extra, or a GPU, is not there
            raise
        except Exception as error:
            raise ModelDamagedError(f"{self} does not run: {first_line(error)}") from error
        if answer.shape != (1, len(self.labels)):
            raise ModelDamagedError(
                f"{self} answers with shape {answer.shape} for {len(self.labels)} labels"
            )
        if not np.isfinite(answer).all() or abs(float(answer.sum()) - 1) > 1e-3:
            raise ModelDamagedError(f"{self} does not answer with probabilities: {answer[0][:5]}")

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def export(directory: Path, network: Any, pixels: NDArray[np.uint8]) -> float | None:
    """Write the files of a Keras model from uint8 (n, height, width, channels) to probabilities.

    Returns:
        The card's `onnx_difference` on evaluation images; None where it does not export to ONNX.
    """
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / Keras.file)
    path = directory / Onnx.file
    expected = network.predict(pixels, verbose=0)  # Only a network that was called is exported.
    try:
        with warnings.catch_warnings(), _constants(network):
            warnings.simplefilter("ignore")  # tf2onnx uses deprecated parts of numpy
            network.export(path, format="onnx", verbose=False)
        answers = Paced(Onnx(path.read_bytes(), "cpu"), fitting(*pixels.shape[1:3]))(pixels)
    except Exception as error:
        log.warning("no ONNX file, Keras will serve it: %s", first_line(error))
        path.unlink(missing_ok=True)
        return None
    return float(np.abs(answers - expected).max())


@contextmanager
def _constants(network: Any) -> Iterator[None]:
    """Turn tensors that layers hold, as Normalization its mean, into arrays until the block ends.

    As tensors they would become inputs of the exported graph, which nobody feeds.
    """
    import tensorflow as tf

    held = [
        (layer, name, value)
        for layer in network._flatten_layers()
        for name, value in vars(layer).items()
        if isinstance(value, tf.Tensor)
    ]
    for layer, name, value in held:
        vars(layer)[name] = value.numpy()
    try:
        yield
    finally:
        for layer, name, value in held:
            vars(layer)[name] = value


def write_card(directory: Path, card: Card) -> str:
    """Write version.json with the checksums of `export`'s files, and return its own SHA-256."""
    files = [directory / each.file for each in engines.installed().values()]
    card = replace(card, checksums={file.name: sha256(file) for file in files if file.exists()})
    (directory / CARD_FILE).write_text(json.dumps(asdict(card), indent=2) + "\n")
    return sha256(directory / CARD_FILE)


def read_card(directory: Path, digest: str | None = None) -> Card:
    """Read a version's card, and compare every file with its checksum.

    The digest is that of version.json in the registry; None for a folder that is not registered.

    Raises:
        ModelDamagedError: A file is missing or is not the one that was registered.
    """
    path = directory / CARD_FILE
    if digest is not None:
        _verify(path, digest)
    try:
        card = _parse(json.loads(path.read_bytes()))
    except OSError as error:
        raise ModelDamagedError(f"{path} cannot be read: {error.strerror}") from None
    except (
        ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError,
    ) as error:  # fmt: skip
        raise ModelDamagedError(f"{path} does not describe a version: {error}") from None
    for name, checksum in (card.checksums or {}).items():
        _verify(directory / Path(name).name, checksum)
    return card


def serve(
    directory: Path, name: str, version: int, digest: str | None, engine: str, device: str = "auto"
) -> ServedModel:
    """Read a version's card as `read_card` does, and its model as `ready` does."""
    return ready(directory, read_card(directory, digest), name, version, engine, device)


def ready(
    directory: Path, card: Card, name: str, version: int = 0, engine: str = "auto",
    device: str = "auto",
) -> ServedModel:  # fmt: skip
    """Read the model of a version whose card is known, and check that it answers.

    The engine `auto` is that of `automatic`.

    Raises:
        ModelDamagedError: There is no file for the engine, or it does not answer as it must.
        EnvironmentUnfitError: The device is not there.
    """
    if engine == "auto":
        engine = automatic(card)
    file = engines.engine(engine).file
    if file not in (card.checksums or {file}) or not (directory / file).exists():
        raise ModelDamagedError(f"{name} version {version} has no {file}; set engine to auto")
    if device == "cuda" and not issubclass(engines.engine(engine), Onnx):
        raise EnvironmentUnfitError(
            f"device is cuda, and the engine {engine} of {name} version {version} runs on the "
            "cores only; set engine to onnx, or device to auto"
        )
    content = (directory / file).read_bytes()
    model = ServedModel(
        name, version, card.labels, card.preprocessing, engine, content, card.reference, device
    )
    model.check()
    return model


def automatic(card: Card) -> str:
    """Choose the engine that was found the fastest, or ONNX where it agrees to `AGREEMENT`."""
    agrees = card.onnx_difference is not None and card.onnx_difference <= AGREEMENT
    fastest = card.training.get("optimised")
    if agrees and fastest in engines.FASTER and engines.usable(fastest):
        return str(fastest)
    return "onnx" if agrees else "keras"


def _parse(fields: dict[str, Any]) -> Card:
    parsed = {
        "labels": tuple(fields["labels"]),
        "preprocessing": Preprocessing(**fields["preprocessing"]),
        "reference": (seen := fields.get("reference")) and Reference.from_json(seen),
    }
    card = Card(**fields | parsed)
    _require_sound(card, fields["labels"])
    return card


def _require_sound(card: Card, labels: Any) -> None:
    """Raise ValueError for fields of other types: rows could not hold what the version answers."""
    known = {
        "labels": isinstance(labels, list) and labels and all(map(_is_text, labels)),
        "metrics": isinstance(card.metrics, dict),
        "training": isinstance(card.training, dict),
        "checksums": isinstance(card.checksums or {}, dict)
        and all(isinstance(each, str) for each in (card.checksums or {}).values()),
        "onnx_difference": isinstance(card.onnx_difference, float | int | None),
        "origin": isinstance(card.origin, dict | None),
        "reference": not card.reference
        or len(card.reference.counts.get("label", card.labels)) == len(card.labels),
    }
    for field, fits in known.items():
        if not fits:
            raise ValueError(f"the field {field} is of another type or length")


def _is_text(label: Any) -> bool:
    try:
        return isinstance(label, str) and bool(label.encode())
    except UnicodeEncodeError:  # JSON can hold halves of letters
        return False


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
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
