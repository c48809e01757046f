"""Pieces of networks that recipes share."""

from collections.abc import Sequence
from typing import Any

from sightstream.images.decode import Preprocessing


def convolution(x: Any, filters: int, size: int = 3, stride: int = 1) -> Any:
    """Convolution, batch normalisation, ReLU.

    The momentum is 0.9: Keras' 0.99 needs more steps to settle than small data sets have.
    """
    from keras import layers

    x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def cnn(
    preprocessing: Preprocessing, labels: int, stages: Sequence[Sequence[int]], *,
    stem: int | None = None, dropout: float = 0.3, flat: bool = False,
) -> Any:  # fmt: skip
    """Stages of 3x3 convolutions with a pooling after each, and a softmax layer.

    `stages` are the filters of each convolution of each stage, `stem` those of a first 5x5
    convolution that halves the picture. If `flat`, the last layer sees where things are, instead of
    their mean.
    """
    from keras import Input, Model, layers

    image = Input(preprocessing.shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    if stem:
        x = convolution(x, stem, size=5, stride=2)
    for number, stage in enumerate(stages, 1):
        for filters in stage:
            x = convolution(x, filters)
        if flat or number < len(stages):
            x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x) if flat else layers.GlobalAveragePooling2D()(x)
    return Model(image, layers.Dense(labels, activation="softmax")(layers.Dropout(dropout)(x)))


def resnet(
    preprocessing: Preprocessing, labels: int, stages: Sequence[int], dropout: float = 0.3
) -> Any:
    """A small ResNet (He et al., 2015): one block of two convolutions for each stage.

    `stages` are the filters of each block; each but the first halves the picture.
    """
    from keras import Input, Model, layers

    image = Input(preprocessing.shape, dtype="uint8")
    x = convolution(layers.Rescaling(1 / 255)(image), 24, size=5, stride=2)
    for number, filters in enumerate(stages):
        stride = 2 if number else 1
        y = convolution(x, filters, stride=stride)
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        x = layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
        y, x = (layers.BatchNormalization(momentum=0.9)(each) for each in (y, x))
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return Model(image, layers.Dense(labels, activation="softmax")(x))


def mlp(
    preprocessing: Preprocessing, labels: int, units: Sequence[int], *, pool: int = 1,
    dropout: float = 0.3,
) -> Any:  # fmt: skip
    """Dense layers with batch normalisation, ReLU and dropout.

    `units` are those of each layer; `pool` pixels in each direction become one, their mean.
    """
    from keras import Input, Model, layers

    image = Input(preprocessing.shape, dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Flatten()(layers.AveragePooling2D(pool)(x) if pool > 1 else x)
    for width in units:
        x = layers.BatchNormalization(momentum=0.9)(layers.Dense(width, use_bias=False)(x))
        x = layers.Dropout(dropout)(layers.ReLU()(x))
    return Model(image, layers.Dense(labels, activation="softmax")(x))
