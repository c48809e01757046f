"""The make of a car, after the published project; several hundred pictures are few for that.

By default, therefore, a pretrained network sees the picture; `--network` has those that learn all.
"""

from dataclasses import replace
from typing import Any

from sightstream.images.decode import Preprocessing
from training.recipes import Recipe
from training.recipes.blocks import cnn, mlp, resnet

PIXELS = Preprocessing(64, 64)


def augmentation() -> list[Any]:
    """A car may drive either way, and be a little off the middle."""
    from keras import layers

    return [
        layers.RandomFlip("horizontal"),
        layers.RandomTranslation(0.06, 0.06, fill_mode="nearest"),
    ]


RECIPE = Recipe(
    name="cars",
    preprocessing=Preprocessing(height=160, width=256),
    shares=(0.7, 0.15, 0.15),
)
_LEARNED = replace(
    RECIPE, preprocessing=PIXELS, epochs=40, label_smoothing=0.1, augmentation=augmentation
)
NETWORKS = {
    "squeezenet": RECIPE,
    "mlp": replace(_LEARNED, network=lambda labels: mlp(PIXELS, labels, (256, 128), pool=2)),
    "cnn": replace(
        _LEARNED, network=lambda labels: cnn(PIXELS, labels, ((32, 32), (64, 64), (96,)), stem=24)
    ),
    "resnet": replace(_LEARNED, network=lambda labels: resnet(PIXELS, labels, (32, 64, 96))),
}
