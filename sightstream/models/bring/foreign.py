"""What is known of a model that was made elsewhere, and where each fact was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

FIELDS = ("labels", "size", "layout", "scale", "aspect", "crop", "resize")
"""Names of facts; all but the last three are asked for where nothing tells them."""


@dataclass(frozen=True)
class Fact:
    """A value, and what told it, such as `preprocessor_config.json`."""

    value: Any
    source: str


Facts = dict[str, Fact]
Answer = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Foreign:
    """A model as its file gives it: from the input that it expects to its raw output."""

    kind: str  # such as "ONNX"
    network: ModelProto
    answer: Answer  # inputs as the network expects them to raw outputs, in the model's own runtime
    runtime: str  # with its version
    facts: Facts = field(default_factory=dict)


def agreed(told: Mapping[str, Fact], name: str, given: object) -> Fact | None:
    """The fact that the file tells or the user gives; InputError where they contradict."""
    fact = told.get(name)
    if given is None:
        return fact
    if fact is not None and fact.value != given:
        raise InputError(
            f"--{name} {_shown(given)} contradicts {fact.source}, which tells "
            f"{_shown(fact.value)}; leave --{name} out"
        )
    return fact or Fact(given, f"--{name}")


def wanted(fact: Fact | None, question: str) -> Fact:
    """A fact that must be known; InputError with the question where nothing tells it."""
    if fact is None:
        raise InputError(question)
    return fact


def _shown(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
