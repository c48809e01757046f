"""From a file that was made elsewhere to the files of a version, proven on real images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError, first_line
from sightstream.images.decode import Frame, Preprocessing, Resize
from sightstream.models.bring import graph, kinds, photographs
from sightstream.models.bring import labels as names
from sightstream.models.bring.foreign import Fact, Facts, Foreign, agreed, wanted
from sightstream.models.bring.graph import Ending
from sightstream.models.bring.scale import CHOICES, Scale
from sightstream.models.engines import Onnx
from sightstream.models.version import AGREEMENT

IMAGES = 48  # on which a model is compared with its original
BYTES = 2**25  # of their pixels, at most, which become float32

_BOUNDED = {"Tanh", "Relu", "LeakyRelu", "Softplus", "Softsign", "HardSigmoid", "Exp", "Clip"}
"""Operators that leave out logits of one side."""

_CERTAIN = 15.0
"""A logit of which the sigmoid differs from 0 or 1 by less than float32 shows."""


@dataclass(frozen=True)
class Wish:
    """What a user tells of a model; None where the file is to tell it."""

    labels: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    scale: Scale | None = None
    layout: str | None = None
    aspect: str | None = None
    window: str = ""  # of DICOM, as is the frame: no model's file tells of them
    frame: Frame = "first"
    resize: Resize | None = None
    crop: float | None = None


@dataclass(frozen=True)
class Brought:
    """The content of model.onnx, and what the card tells of it."""

    content: bytes
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    difference: float
    origin: dict[str, Any]


def bring(path: Path, wish: Wish, images: Sequence[bytes] = ()) -> Brought:
    """Read a model, wrap it, and compare it with the original on images (files' contents).

    Raises:
        InputError: it cannot be served, something has to be told, or what was told is wrong.
    """
    return next(found for found in steps(path, wish, images) if isinstance(found, Brought))


def steps(path: Path, wish: Wish, images: Sequence[bytes] = ()) -> Iterator[str | Brought]:
    """Do what `bring` does: yield the name of each step before it is done, and then the outcome."""
    seen = "images of --data"
    if not images:
        images, seen = photographs.crops(IMAGES), photographs.SOURCE
    yield "reading the file"
    foreign = kinds.read(path, wish.size)
    facts = _facts(foreign, wish)
    channels = _channels(foreign, facts["layout"].value)
    facts["scale"].value.require(channels)
    height, width = facts["size"].value
    try:
        preprocessing = Preprocessing(
            height, width, channels, facts["resize"].value, facts["aspect"].value,
            crop=facts["crop"].value, window=wish.window, frame=wish.frame,
        )  # fmt: skip
    except ValueError as error:
        told = ", ".join(f"{key} from {facts[key].source}" for key in ("size", "crop", "resize"))
        raise InputError(f"{path} cannot be served: {error} ({told})") from None
    yield "running the original"
    most = max(4, BYTES // (height * width * channels))
    pixels = photographs.pixels(images[:most], preprocessing)
    raw = _raw(foreign, pixels, facts)
    labels = _labels(facts.get("labels"), raw)
    ending = _ending(raw, len(labels.value), graph.ends_with(foreign.network))
    yield "comparing the served model with it"
    made = graph.wrapped(
        foreign.network, facts["size"].value, channels, facts["layout"].value,
        facts["scale"].value, ending, raw.shape[1],
    ).SerializeToString()  # fmt: skip
    difference = _difference(made, pixels, _probabilities(raw, ending))
    shown = {**facts, "labels": Fact(f"{len(labels.value)} labels", labels.source),
             "output": Fact(ending, "running it on the images")}  # fmt: skip
    origin = {
        "file": path.name, "sha256": kinds.digest(path),
        "kind": foreign.kind, "runtime": foreign.runtime,
        **{key: f"{_text(fact.value)}, from {fact.source}" for key, fact in shown.items()},
        "largest_difference": difference, "compared_on": f"{len(pixels)} {seen}",
    }  # fmt: skip
    yield Brought(made, names.distinct(labels.value), preprocessing, difference, origin)


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _facts(foreign: Foreign, wish: Wish) -> Facts:
    """What the file tells and the user gives; InputError where that is not enough."""
    told = dict(foreign.facts)
    for key, fact in graph.told(foreign.network).items():
        if key in told and told[key].value != fact.value:
            raise InputError(
                f"{told[key].source} tells the {key} {_text(told[key].value)}, but {fact.source} "
                f"tells {_text(fact.value)}: the file contradicts itself; export it anew"
            )
        told.setdefault(key, fact)
    facts = {
        "layout": wanted(
            agreed(told, "layout", wish.layout),
            "the file does not tell where its channels are: give --layout nchw (PyTorch) or "
            "--layout nhwc (TensorFlow)",
        ),
        "size": wanted(
            agreed(told, "size", wish.size),
            "the file does not tell its input's size: give --size HEIGHTxWIDTH, such as 224x224",
        ),
        "scale": wanted(
            agreed(told, "scale", wish.scale),
            f"the file does not tell the range of pixels that it expects: give --scale, one of "
            f"{CHOICES}",
        ),
        "aspect": agreed(told, "aspect", wish.aspect) or Fact("stretch", "our default; --aspect"),
        "crop": agreed(told, "crop", wish.crop) or Fact(1.0, "our default; --crop"),
        "resize": agreed(told, "resize", wish.resize) or Fact("bilinear", "our default; --resize"),
    }
    labels = told.get("labels")
    if wish.labels is not None:
        if labels and wish.labels != labels.value and set(wish.labels) == set(labels.value):
            raise InputError(f"--labels has another order than {labels.source}; leave --labels out")
        labels = Fact(wish.labels, "--labels")
    return {**facts, "labels": labels} if labels else facts


def _channels(foreign: Foreign, layout: str) -> Any:
    channels = graph.sides(foreign.network)[1 if layout == "nchw" else 3] or 3
    if channels not in (1, 3):
        raise InputError(
            f"the network's input has {channels} channels with the layout {layout}; images have "
            "1 or 3"
        )
    return channels


def _raw(foreign: Foreign, pixels: NDArray[np.uint8], facts: Facts) -> NDArray[np.float32]:
    """The original's answers (n, outputs) in its own runtime."""
    scaled = pixels if _takes_bytes(foreign) else facts["scale"].value(pixels)
    if facts["layout"].value == "nchw":
        scaled = scaled.transpose(0, 3, 1, 2)
    graph.the_output(foreign.network)
    try:
        raw = np.asarray(foreign.answer(scaled))
    except Exception as error:
        size = _text(facts["size"].value)
        raise InputError(
            f"{foreign.runtime} does not run the model on images of {size}: {first_line(error)}"
        ) from error
    while raw.ndim > 2 and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim > 2 and set(raw.shape[1:-1]) == {1}:
        raw = raw.reshape(len(raw), -1)
    if raw.ndim == 1 and len(raw) == len(pixels):
        raw = raw[:, None]
    if raw.ndim != 2 or len(raw) != len(pixels):
        raise InputError(
            f"the network answers one image with a shape of {_text(raw.shape[1:])}; a classifier "
            "answers with one number for each label: this is a model for detection or segmentation"
        )
    if not np.isfinite(raw).all():
        raise InputError("the network answers with NaN or infinity on real images")
    return raw


def _takes_bytes(foreign: Foreign) -> bool:
    return graph.TYPES[graph.the_input(foreign.network).type.tensor_type.elem_type] is np.uint8


def _labels(fact: Fact | None, raw: NDArray[np.float32]) -> Fact:
    outputs = raw.shape[1]
    needed = max(outputs, 2)
    if fact is None:
        raise InputError(
            f"the file does not tell the names of its {outputs} output(s): give --labels with "
            f"{needed} names (a file, or a,b,c)"
        )
    if len(fact.value) != needed:
        hint = ""
        if not (np.min(raw) >= 0 and np.abs(raw.sum(axis=1) - 1).max() < 1e-3):
            hint = "; if those are features (an embedding), it is no classifier"
        raise InputError(
            f"the network has {outputs} output(s) and {fact.source} {len(fact.value)} label(s): "
            f"{needed} are needed{hint}"
        )
    return fact


def _ending(raw: NDArray[np.float32], labels: int, last: str) -> Ending:
    """How raw outputs become probabilities, by the last operator and the answers on images."""
    within = bool(np.min(raw) >= 0 and np.max(raw) <= 1)
    if raw.shape[1] == 1:
        if last in _BOUNDED:
            raise InputError(
                f"the network's one output ends with {last}, so it is no logit: export the model "
                "with a sigmoid, or with nothing in its place"
            )
        if last != "Sigmoid" and within:
            raise InputError(
                "the network's one output is from 0 to 1 without a sigmoid: it may be a "
                "probability or not; export the model with its sigmoid"
            )
        if last != "Sigmoid" and np.min(np.abs(raw)) > _CERTAIN:
            raise InputError(
                f"the network's one output is {np.min(raw):.4g} to {np.max(raw):.4g} on images: "
                "as a logit it would be certain of all; this looks like a measurement (regression)"
            )
        return "one" if within else "sigmoid"
    if within and np.abs(raw.sum(axis=1) - 1).max() <= 1e-3:
        return "probabilities"
    if last == "Sigmoid":
        raise InputError(
            f"the network's {labels} outputs are sigmoids of their own: it answers with several "
            "labels for an image, and here an image has one"
        )
    if within:
        raise InputError(
            f"the network's {labels} outputs are from 0 to 1 and their sum is not 1: they are "
            "neither probabilities nor logits; export the model with its softmax, or without it"
        )
    if np.abs(np.exp(-raw.astype(float)).sum(axis=1) - 1).max() < 1e-3:
        raise InputError(
            "the network answers with negative logarithms of probabilities, of which the least is "
            "the best; export it with its softmax"
        )
    if labels > 2 and np.abs((raw.astype(float) ** 2).sum(axis=1) - 1).max() < 1e-3:
        raise InputError(
            "the network answers with vectors of length 1: this is an embedding, no classifier"
        )
    return "softmax"


def _probabilities(raw: NDArray[np.float32], ending: Ending) -> NDArray[np.float64]:
    values = raw.astype(np.float64)
    if ending == "probabilities":
        return values
    if ending == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    p = values if ending == "one" else 1 / (1 + np.exp(-values))
    return np.concatenate([1 - p, p], axis=1)


def _difference(
    content: bytes, pixels: NDArray[np.uint8], expected: NDArray[np.float64]
) -> float:  # fmt: skip
    """The largest difference of the served answers, one, three and 16 images at a time."""
    worst = 0.0
    try:
        engine = Onnx(content)
        for batch, count in ((1, 6), (3, 6), (16, len(pixels))):
            some = pixels[:count]
            answers = [engine(some[n : n + batch]) for n in range(0, len(some), batch)]
            worst = max(worst, float(np.abs(np.concatenate(answers) - expected[:count]).max()))
    except Exception as error:
        raise InputError(
            "the network takes a fixed number of images only, or cannot be joined with its "
            f"preprocessing: {first_line(error)}; export it with a free batch"
        ) from error
    if not worst <= AGREEMENT:
        raise InputError(
            f"the served model's answers differ from the original's by {worst:.2g}, more than "
            f"{AGREEMENT:g}; export it with a free batch, in float32"
        )
    return worst
