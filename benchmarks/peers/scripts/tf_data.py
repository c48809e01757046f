"""tf.data and a tf.function in one process: the decoder and the network inside TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from protocol import MODEL, ROWS, SIDE, answer

IMAGE = 256
"""Pixels of a side, at least, of the images."""

RATIO = max(ratio for ratio in (1, 2, 4, 8) if IMAGE // ratio >= SIDE)

model = keras.saving.load_model(f"{MODEL}.keras", compile=False)
shape = tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8)
predict = tf.function(lambda pixels: model(pixels, training=False), input_signature=[shape])


def load(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A path and its pixels; JPEG is decoded at a fraction, where that is large enough."""
    image = tf.io.decode_jpeg(
        tf.io.read_file(path), channels=3, ratio=RATIO, dct_method="INTEGER_FAST",
        fancy_upscaling=False,
    )  # fmt: skip
    pixels = tf.image.resize(image, (SIDE, SIDE))
    return path, tf.cast(tf.round(pixels), tf.uint8)


def classify(folder: str) -> int:
    """All images of a folder."""
    paths = sorted(entry.path for entry in os.scandir(folder))
    data = tf.data.Dataset.from_tensor_slices(paths)
    data = data.map(load, tf.data.AUTOTUNE, deterministic=False).batch(64)
    with (ROWS / "rows.csv").open("a") as out:
        for names, pixels in data.prefetch(tf.data.AUTOTUNE):
            labels = predict(pixels).numpy().argmax(1)
            out.writelines(
                f"{name.decode()},{label}\n"
                for name, label in zip(names.numpy(), labels, strict=True)
            )
    return len(paths)


answer(classify=classify)
