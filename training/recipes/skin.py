"""Nine kinds of skin lesions, after the published project: an MLP with dropout and softmax."""

from dataclasses import replace
from typing import Any

from sightstream.images.decode import Preprocessing
from training.recipes import Recipe
from training.recipes.blocks import cnn, mlp

COLOURS = Preprocessing(32, 32)
PIXELS = Preprocessing(64, 64)


def augmentation() -> list[Any]:
    """Rotation, shift, shear, zoom and flip: a lesion has no upright, and its colours matter."""
    from keras import layers

    return [
        layers.RandomFlip("horizontal_and_vertical"),
        layers.RandomRotation(0.03, fill_mode="nearest"),
        layers.RandomTranslation(0.04, 0.04, fill_mode="nearest"),
        # As ranges: Keras cannot read back what it writes of a single number here.
        layers.RandomShear((0.0, 0.03), (0.0, 0.03), fill_mode="nearest"),
        layers.RandomZoom((-0.06, 0.06), fill_mode="nearest"),
    ]


def plateau(epochs: int, learning_rate: float) -> list[Any]:
    """Lowers the rate where the validation loss stops falling."""
    from keras.callbacks import ReduceLROnPlateau

    return [ReduceLROnPlateau(factor=0.4, patience=max(2, epochs // 12), min_lr=1e-5)]


RECIPE = Recipe(
    name="skin",
    preprocessing=COLOURS,
    network=lambda labels: mlp(COLOURS, labels, (256, 128), pool=4),
    shares=(0.75, 0.1, 0.15),
    epochs=60,
    label_smoothing=0.05,
    augmentation=augmentation,
    callbacks=plateau,
)
NETWORKS = {
    "mlp": RECIPE,
    "cnn": replace(
        RECIPE,
        preprocessing=PIXELS,
        network=lambda labels: cnn(PIXELS, labels, ((32, 32), (64, 64), (96,)), stem=24),
    ),
    "squeezenet": Recipe(
        name="skin",
        preprocessing=Preprocessing(160, 160),
        shares=(0.8, 0.0, 0.2),
    ),
}
