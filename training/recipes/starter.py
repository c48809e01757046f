"""The model of a first run: handwritten digits that come with scikit-learn, in under a minute.

Source of the images: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI
Machine Learning Repository, 1998: 1,797 digits of 8x8 pixels in 17 shades.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sightstream.images.decode import Preprocessing
from training.recipes import Recipe

SAMPLES = 10  # digits that are kept out of the class folders, one of each class, for a first look


def network(labels: int) -> Any:
    """A small CNN: 3x3 convolutions of 24 and 48 filters, and a dense layer of 96."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((16, 16, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(24, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(48, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(96, activation="relu"),
            layers.Dense(labels, activation="softmax"),
        ]
    )


def augmentation() -> list[Any]:
    """Moves an image by up to two of its 16 pixels, a quarter of a stroke."""
    from keras import layers

    return [layers.RandomTranslation(0.125, 0.125, fill_mode="nearest")]


def prepare(home: Path) -> Path:
    """Writes the digits as PNG files below `starter/digits/<label>`, one a class into samples."""
    from PIL import Image, ImageOps
    from sklearn.datasets import load_digits

    digits, samples = home / "starter" / "digits", home / "starter" / "samples"
    if digits.exists():
        return digits
    unfinished = home / "starter" / "unfinished"
    data = load_digits()
    for number, (shades, label) in enumerate(zip(data.images, data.target, strict=True)):
        small = Image.fromarray((shades * (255 / 16)).astype(np.uint8))
        picture = ImageOps.invert(small.resize((64, 64), Image.Resampling.BICUBIC))
        folder = samples if number < SAMPLES else unfinished / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{label}-{number:04d}.png")
    unfinished.rename(digits)
    return digits


RECIPE = Recipe(
    name="starter",
    preprocessing=Preprocessing(16, 16, 1, resize="box"),
    network=network,
    epochs=20,
    passes=5,
    batch_size=32,
    learning_rate=2e-3,
    augmentation=augmentation,
    prepare=prepare,
)
