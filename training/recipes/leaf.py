"""Diseases of plant leaves from 24x24 pixels, after the published Spark and Elephas project."""

from typing import Any

from sightstream.images.decode import Preprocessing
from training.recipes import Recipe
from training.recipes.blocks import cnn

PIXELS = Preprocessing(24, 24)


def augmentation() -> list[Any]:
    """A leaf may be seen from either side; to turn or move it blurs what 24 pixels can show."""
    from keras import layers

    return [layers.RandomFlip("horizontal")]


RECIPE = Recipe(
    name="leaf",
    preprocessing=PIXELS,
    network=lambda labels: cnn(
        PIXELS, labels, ((24, 24), (48, 48), (96, 96)), dropout=0.4, flat=True
    ),
    shares=(0.8, 0.2, 0.0),
    epochs=48,
    learning_rate=2e-3,
    label_smoothing=0.1,
    augmentation=augmentation,
)
