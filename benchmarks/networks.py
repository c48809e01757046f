"""Networks of the sizes that people use, with 38 labels; their weights are random."""

from __future__ import annotations

from typing import Any

from sightstream.models.engines import import_keras

SIDE = 224

SCALES = {"MobileNetV2": (1 / 127.5, -1), "EfficientNetB0": (1, 0), "ResNet50": (1 / 127.5, -1)}
"""Factor and offset of the pixels for each network of keras.applications."""


def network(name: str) -> Any:
    """From uint8 pixels (n, `SIDE`, `SIDE`, 3) to probabilities."""
    keras = import_keras()

    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    body = getattr(keras.applications, name)(weights=None, include_top=True, classes=38)
    factor, offset = SCALES[name]
    return keras.Model(pixels, body(keras.layers.Rescaling(factor, offset=offset)(pixels)))
