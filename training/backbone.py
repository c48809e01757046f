"""A registered model as a featuriser: its network without the last layer, in ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError, first_line
from sightstream.images.decode import Preprocessing
from sightstream.models.engines import Onnx
from sightstream.models.pace import Paced, fitting
from sightstream.models.version import sha256
from training import onnx_head

if TYPE_CHECKING:
    from sightstream.models.registry import Registry
    from sightstream.models.version import Card


@dataclass(frozen=True)
class Backbone:
    """A network from uint8 pixels (n, height, width, channels) to features (n, `width`)."""

    content: bytes  # of an ONNX file
    preprocessing: Preprocessing
    width: int
    origin: dict[str, Any]  # which version it is of

    def shipped(self, context: Any) -> Shipped:
        """The network as Spark's workers apply it."""
        return Shipped(context.broadcast(self.content), self.preprocessing)

    def fold(self, kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> Folded:
        """The network with a linear layer, (features, labels), and a softmax."""
        return Folded(self, kernel.astype(np.float32), bias.astype(np.float32))


@dataclass(frozen=True)
class Shipped:
    """A network that is broadcast."""

    content: Any  # Spark's Broadcast
    preprocessing: Preprocessing

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Applies the network to flat pixels in a worker, where it is loaded once."""
        shape = self.preprocessing.shape
        return _engine(self.content.value, *shape[:2])(pixels.reshape(-1, *shape))


@dataclass(frozen=True)
class Folded:
    """Featuriser and head as one network, from uint8 pixels to probabilities."""

    base: Backbone
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    def export(self, directory: Path, pixels: NDArray[np.uint8]) -> float:
        """Writes the ONNX file, and compares it with features and head, one after the other.

        Returns:
            The largest difference of the probabilities of these images.
        """
        directory.mkdir(parents=True, exist_ok=True)
        content = onnx_head.fold(self.base.content, self.kernel, self.bias)
        (directory / Onnx.file).write_bytes(content)
        height, width = pixels.shape[1:3]
        features = _engine(self.base.content, height, width)(pixels).astype(np.float64)
        answers = Paced(Onnx(content, "cpu"), fitting(height, width))(pixels)
        return float(np.abs(answers - _softmax(features @ self.kernel + self.bias)).max())


def find(registry: Registry, which: str) -> Backbone:
    """Takes the featuriser from a version: NAME (its champion), NAME@ALIAS or NAME@NUMBER.

    Raises:
        ModelNotFoundError: there is no such version.
        InputError: it has no ONNX file, or its last layer is no linear one.
    """
    name, _, alias = which.partition("@")
    version = registry.version(name, alias or "champion")
    shown, card = f"{name}@{version.number}", registry.card(version)
    with registry.files(version) as files:
        path = files / Onnx.file
        if not path.exists():
            raise InputError(f"{shown} has no {Onnx.file}, so it cannot be a featuriser")
        try:
            origin = {"featuriser": shown, "featuriser_sha256": sha256(path)}
            return _without_last(path, card, origin)
        except InputError as error:
            raise InputError(f"{shown} cannot be a featuriser: {error}") from None


def again(files: Path, card: Card) -> Backbone | None:
    """The featuriser inside of a version that was trained on one; None for other versions."""
    if not card.origin or "featuriser" not in card.origin:
        return None
    return _without_last(files / Onnx.file, card, card.origin)


def _without_last(path: Path, card: Card, origin: dict[str, Any]) -> Backbone:
    content = onnx_head.cut(path.read_bytes())
    shape = card.preprocessing.shape
    try:
        features = _engine(content, *shape[:2])(_noise(shape))
    except Exception as error:  # of many kinds, by graph
        raise InputError(f"without its last layer it does not run: {first_line(error)}") from error
    if not np.isfinite(features).all():
        raise InputError("its features are not numbers")
    return Backbone(content, card.preprocessing, features.shape[1], origin)


@lru_cache(2)
def _engine(content: bytes, height: int, width: int) -> Paced:
    return Paced(Onnx(content, "cpu"), fitting(height, width))


def _noise(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
