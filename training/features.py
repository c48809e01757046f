"""Transfer learning: a pretrained network without its last layer, and a head on its features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError, first_line
from sightstream.models.engines import import_keras
from training import networks
from training.backbone import Backbone

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

Linear = tuple[NDArray[np.float32], NDArray[np.float32]]
"""A linear layer: its kernel (features, labels) and its bias (labels,)."""

SQUEEZENET = "squeezenet"
_FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128),
          6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}  # fmt: skip
_POOLED = (4, 5, 6, 7, 8, 9)


def featuriser(name: str, weights: str | None, shape: tuple[int, int, int]) -> Any:
    """Builds a frozen Keras model from uint8 RGB pixels (height, width, 3) to features.

    `name` is `squeezenet`, or a function of `keras.applications` such as `MobileNetV2`; `weights` a
    file, or `imagenet` for those that keras.applications downloads.

    Raises:
        InputError: there is no such network, or the weights do not fit it.
    """
    require_weights(name, weights)
    keras = import_keras()
    image = keras.Input(shape, dtype="uint8")
    try:
        if name == SQUEEZENET:
            base, outputs = _squeezenet(shape)
            preprocess = keras.applications.imagenet_utils.preprocess_input
            arguments: dict[str, Any] = {"mode": "caffe"}
            base.load_weights(weights)
        else:
            build = getattr(keras.applications, name, None)
            if not callable(build):
                raise InputError(f"there is no network '{name}' in keras.applications")
            base = build(include_top=False, weights="imagenet" if weights == "imagenet" else None,
                         input_shape=shape)  # fmt: skip
            if weights != "imagenet":
                base.load_weights(weights)
            outputs, arguments = [base.output], {}
            preprocess = _preprocessing(name)
    except (ValueError, OSError) as error:
        raise InputError(f"{weights} does not fit {name}: {first_line(error)}") from None
    x = _as_layer(preprocess, arguments)(keras.layers.Rescaling(1.0)(image))
    maps = keras.Model(base.input, outputs)(x)
    pooled = [
        pool()(each)
        for each in (maps if isinstance(maps, list) else [maps])
        for pool in (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    ]
    model = keras.Model(image, keras.layers.Concatenate()(pooled), name="featuriser")
    model.trainable = False
    return model


def require_weights(name: str, weights: str | None) -> None:
    """Raises InputError where a pretrained network has no weights, or there is no such file."""
    if weights is None:
        raise InputError(
            f"{name} needs its pretrained weights: --weights FILE, or --weights imagenet for a "
            "network of keras.applications; or give --featuriser the name of a registered model"
        )
    if weights == "imagenet" and name == SQUEEZENET:
        raise InputError("squeezenet comes from a file: --weights FILE")
    if weights != "imagenet" and not Path(weights).is_file():
        raise InputError(f"there is no weights file {weights}")


def transformer(model: Any) -> Any:
    """A Spark ML Transformer of a featuriser: column `pixels` to vector `features`."""
    from pyspark.ml import Transformer
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql.functions import pandas_udf

    class Featuriser(Transformer):
        def _transform(self, dataset: DataFrame) -> DataFrame:
            shipped = _shipped(model, dataset.sparkSession.sparkContext)

            def answer(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
                import pandas as pd

                for batch in batches:
                    yield pd.Series(list(shipped(np.frombuffer(b"".join(batch), np.uint8))))

            import pandas as pd

            answer.__annotations__ = {
                "batches": Iterator[pd.Series], "return": Iterator[pd.Series]
            }  # fmt: skip
            features = pandas_udf(answer, "array<float>")(dataset["pixels"])
            return dataset.withColumn("features", array_to_vector(features))

    return Featuriser()


def _shipped(model: Any, context: Any) -> Any:
    if isinstance(model, Backbone):
        return model.shipped(context)
    return networks.Shipped(context, model, traced=True)


def width(model: Any) -> int:
    """The number of a featuriser's features."""
    return model.width if isinstance(model, Backbone) else int(model.output_shape[-1])


def regression(images: DataFrame, model: Any, regularization: float, labels: int) -> Linear:
    """Fits a Spark ML Pipeline of a featuriser and a LogisticRegression to pixels and labels.

    `regularization` is MLlib's regParam, on standardised features.
    """
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression

    logistic = LogisticRegression(
        regParam=regularization, elasticNetParam=0.0, family="multinomial", maxIter=100
    )
    fitted = Pipeline(stages=[transformer(model), logistic]).fit(images).stages[-1]
    kernel = np.zeros((labels, width(model)), np.float32)
    bias = np.full(labels, -np.inf, np.float32)
    found = fitted.coefficientMatrix.toArray()
    kernel[: len(found)], bias[: len(found)] = found, fitted.interceptVector.toArray()
    return kernel.T, np.nan_to_num(bias, neginf=-1e9)


def linear(
    features: int, labels: int,
    moments: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> Any:  # fmt: skip
    """A dense softmax layer on features, which are standardised if their moments are given."""
    keras = import_keras()
    standard = []
    if moments:
        mean, variance = moments
        standard = [keras.layers.Normalization(mean=mean, variance=np.maximum(variance, 1e-6))]
    dense = keras.layers.Dense(labels, activation="softmax", kernel_initializer="zeros")
    return keras.Sequential([keras.Input((features,)), *standard, dense])


def dense(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Any:
    """A head with these weights, as `linear` makes one."""
    head = linear(*kernel.shape)
    head.layers[-1].set_weights([kernel, bias])
    return head


def weights(head: Any) -> Linear:
    """The weights of a head that `linear` made, on features as they are."""
    kernel, bias = head.layers[-1].get_weights()
    if len(head.layers) > 1:
        mean, variance = (np.ravel(each) for each in (head.layers[0].mean, head.layers[0].variance))
        kernel = kernel / np.sqrt(variance)[:, None]
        bias = bias - mean @ kernel
    return kernel, bias


def fold(model: Any, head: Any) -> Any:
    """Featuriser and head as one network, from uint8 pixels to probabilities."""
    if isinstance(model, Backbone):
        return model.fold(*weights(head))
    keras = import_keras()
    image = keras.Input(model.input_shape[1:], dtype="uint8")
    return keras.Model(image, head(model(image)))


def base(model: Any) -> Any:
    """The featuriser inside a model that `fold` returned."""
    return model.get_layer("featuriser")


def moments(images: DataFrame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of the column `features`, each (features,)."""
    from pyspark.ml.stat import Summarizer

    summary = Summarizer.metrics("mean", "variance").summary(images["features"])
    row = images.select(summary.alias("of")).first()
    assert row is not None  # noqa: S101
    return row["of"].mean.toArray(), row["of"].variance.toArray()


def _squeezenet(shape: tuple[int, int, int]) -> tuple[Any, list[Any]]:
    """SqueezeNet v1.1 (Iandola et al., 2016) without its last layer."""
    keras = import_keras()
    layers = keras.layers
    image = keras.Input(shape)
    maps = []
    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(image)
    for number, (squeeze, expand) in _FIRES.items():
        if number in (2, 4, 6):
            x = layers.MaxPooling2D(3, strides=2)(x)
        x = layers.Conv2D(squeeze, 1, activation="relu", name=f"fire{number}_squeeze1x1")(x)
        one = layers.Conv2D(expand, 1, activation="relu", name=f"fire{number}_expand1x1")(x)
        three = layers.Conv2D(expand, 3, padding="same", activation="relu",
                              name=f"fire{number}_expand3x3")(x)  # fmt: skip
        x = layers.Concatenate()([one, three])
        if number in _POOLED:
            maps.append(x)
    return keras.Model(image, x, name=SQUEEZENET), maps


def _preprocessing(name: str) -> Any:
    """The function by which a network of keras.applications expects its input prepared."""
    modules = vars(import_keras().applications).values()
    return next(
        m.preprocess_input for m in modules if isinstance(m, ModuleType) and hasattr(m, name)
    )


def _as_layer(preprocess: Any, arguments: dict[str, Any]) -> Any:
    """A preprocessing as a fixed layer: it is linear in a pixel's colour, as four probes show."""
    keras = import_keras()
    probes = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)[:, None, None, :]
    answers = np.asarray(preprocess(probes.copy(), **arguments)).reshape(4, 3)
    kernel = (answers[1:] - answers[0]).reshape(1, 1, 3, 3)
    constant = keras.initializers.Constant
    return keras.layers.Conv2D(3, 1, kernel_initializer=constant(kernel),
                               bias_initializer=constant(answers[0]))  # fmt: skip
