"""Pneumonia or normal from chest X-rays, after the published Spark and Elephas project."""

from typing import Any

from sightstream.images.decode import Preprocessing
from training.recipes import Recipe
from training.recipes.blocks import cnn

PIXELS = Preprocessing(height=106, width=150, channels=1)


def augmentation() -> list[Any]:
    """A patient may stand a little aside, and a plate be a little darker."""
    from keras import layers

    return [
        layers.RandomTranslation(0.05, 0.05, fill_mode="nearest"),
        layers.RandomRotation(0.015, fill_mode="nearest"),
        layers.RandomZoom((-0.08, 0.08), fill_mode="nearest"),
        layers.RandomContrast(0.2, value_range=(0, 255)),
        layers.RandomBrightness(0.1),
    ]


RECIPE = Recipe(
    name="xray",
    preprocessing=PIXELS,
    network=lambda labels: cnn(PIXELS, labels, ((16, 16), (32, 32), (64, 64)), stem=16),
    shares=(0.6, 0.2, 0.2),
    epochs=50,
    learning_rate=2e-3,
    augmentation=augmentation,
)
