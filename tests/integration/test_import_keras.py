"""Files of Keras and TensorFlow: served as they answer in their own runtime, or refused."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from sightstream.errors import InputError
from sightstream.images.decode import Preprocessing
from sightstream.models.bring import photographs
from sightstream.models.bring.bring import Wish, bring
from sightstream.models.bring.scale import NAMED
from sightstream.models.engines import import_keras
from sightstream.models.registry import Registry
from sightstream.models.version import ServedModel
from tests.foreign import save

THREE = ("a", "b", "c")
UNIT = Wish(THREE, scale=NAMED["0..1"])


@pytest.fixture(scope="module")
def keras():
    return import_keras()


def network(keras, *first, size=(24, 20), head="softmax", units=3):
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential([
        keras.Input((*size, 3)), *first,
        layers.Conv2D(8, 3, strides=2, activation="relu"), layers.DepthwiseConv2D(3),
        layers.BatchNormalization(), layers.GlobalAveragePooling2D(),
        layers.Dense(units, activation=head, kernel_initializer="random_normal"),
    ])  # fmt: skip


def served(brought):
    model = ServedModel("x", 1, brought.labels, brought.preprocessing, "onnx", brought.content)
    model.check()
    return model


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("head", ["softmax", None])
def test_a_keras_file_is_served(tmp_path, keras, suffix, head):
    network(keras, head=head).save(tmp_path / f"m{suffix}")
    found = bring(tmp_path / f"m{suffix}", UNIT)
    assert found.difference < 1e-5
    assert found.preprocessing == Preprocessing(24, 20)
    assert found.origin["runtime"] == f"Keras {keras.__version__}"
    served(found)


def test_one_sigmoid_is_two_labels(tmp_path, keras):
    network(keras, head="sigmoid", units=1).save(tmp_path / "m.keras")
    found = bring(tmp_path / "m.keras", Wish(("no", "yes"), scale=NAMED["-1..1"]))
    assert served(found).labels == ("no", "yes")


def test_layers_that_scale_tell_the_range(tmp_path, keras):
    layers = keras.layers
    network(keras, layers.Rescaling(1 / 127.5, -1)).save(tmp_path / "a.keras")
    means = layers.Normalization(mean=[124.0, 117.0, 104.0], variance=[3400.0] * 3)
    network(keras, means).save(tmp_path / "b.keras")
    for name, layer in (("a", "Rescaling"), ("b", "Normalization")):
        found = bring(tmp_path / f"{name}.keras", Wish(THREE))
        assert found.origin["scale"] == f"0..255, from a {layer} layer"
        with pytest.raises(InputError, match=r"--scale 0..1 contradicts a"):
            bring(tmp_path / f"{name}.keras", UNIT)


def test_a_range_that_no_layer_tells_is_asked_for(tmp_path, keras):
    network(keras).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="give --scale, one of"):
        bring(tmp_path / "m.keras", Wish(THREE))


def test_a_free_size_is_asked_for(tmp_path, keras):
    network(keras, size=(None, None)).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="give --size"):
        bring(tmp_path / "m.keras", UNIT)
    found = bring(tmp_path / "m.keras", Wish(THREE, (32, 40), NAMED["0..1"]))
    assert found.preprocessing == Preprocessing(32, 40)
    assert found.origin["size"] == "32x40, from --size"


def test_a_saved_model_is_served(tmp_path, keras):
    network(keras).export(tmp_path / "m", verbose=False)
    found = bring(tmp_path / "m", UNIT)
    assert found.difference < 1e-5
    assert found.origin["runtime"].startswith("TensorFlow ")
    served(found)


@pytest.mark.parametrize("inner", ["model.savedmodel", "keras_model.h5"])
def test_a_teachable_machine_zip_tells_all(tmp_path, keras, inner):
    folder = tmp_path / "export"
    folder.mkdir()
    made = network(keras)
    if inner.endswith(".h5"):
        made.save(folder / inner)
    else:
        made.export(folder / inner, verbose=False)
    (folder / "labels.txt").write_text("0 Cat\n1 Big dog\n2 none\n")
    shutil.make_archive(str(tmp_path / "tm"), "zip", folder)
    found = bring(tmp_path / "tm.zip", Wish())
    assert found.labels == ("Cat", "Big dog", "none")
    assert "-1..1, from Teachable Machine's export" in found.origin["scale"]
    assert found.preprocessing.aspect == "crop"
    served(found)


def test_an_mlflow_model_of_keras_is_read(tmp_path, keras):
    (tmp_path / "data").mkdir()
    network(keras).save(tmp_path / "data" / "model.keras")
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"keras": {"data": "data"}}}))
    assert bring(tmp_path, UNIT).origin["kind"] == "MLflow, Keras"


def test_an_h5_of_keras_2_is_mended(tmp_path, keras):
    import h5py

    path = tmp_path / "m.h5"
    network(keras).save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
            if layer["class_name"] == "InputLayer":
                layer["config"]["batch_input_shape"] = layer["config"].pop("batch_shape")
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["training_config"] = json.dumps(
            {"optimizer_config": {"class_name": "Adam", "config": {"lr": 0.1}}}
        )
    before = path.read_bytes()
    assert bring(path, UNIT).difference < 1e-5
    assert path.read_bytes() == before


def test_what_only_keras_2_opens_names_the_extra_or_is_served(tmp_path):
    """A functional network inside of Sequential ones, as Teachable Machine makes them."""
    tf_keras = pytest.importorskip("tf_keras")
    layers = tf_keras.layers
    base = tf_keras.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=None)
    features = tf_keras.Sequential([
        tf_keras.Model(base.input, base.output), layers.GlobalAveragePooling2D()
    ])  # fmt: skip
    head = tf_keras.Sequential([
        layers.Dense(100, activation="relu", input_shape=(1280,)),
        layers.Dense(3, activation="softmax", use_bias=False),
    ])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises another format
        tf_keras.Sequential([features, head]).save(tmp_path / "keras_model.h5")
    found = bring(tmp_path / "keras_model.h5", Wish(THREE, scale=NAMED["-1..1"]))
    assert found.difference < 1e-4
    served(found)


def test_gelu_is_served(tmp_path, keras):
    network(keras, keras.layers.Conv2D(6, 3, activation="gelu")).save(tmp_path / "m.keras")
    assert bring(tmp_path / "m.keras", UNIT).difference < 1e-5


def test_convolutions_with_groups_are_refused_by_their_name(tmp_path, keras):
    grouped = keras.layers.Conv2D(6, 3, groups=3)
    network(keras, grouped).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="convolutions with groups"):
        bring(tmp_path / "m.keras", UNIT)


def test_a_keras_file_that_keras_2_wrote_is_served(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    made = tf_keras.applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=3)
    made.save(tmp_path / "m.keras")
    found = bring(tmp_path / "m.keras", Wish(THREE, scale=NAMED["-1..1"]))
    assert found.origin["runtime"].startswith("tf-keras ")
    served(found)


def test_without_keras_2_its_extra_is_named(tmp_path, keras, monkeypatch):
    import h5py

    from sightstream.models.bring import keras_file

    network(keras).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["class_name"] = "NoSuchLayer"
        file.attrs["model_config"] = json.dumps(config)
    monkeypatch.setattr(keras_file, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'sightstream\[keras2\]'"):
        bring(tmp_path / "m.h5", UNIT)


def test_the_commands_of_the_documentation_work(tmp_path, settings, keras, monkeypatch):
    """Each `models import` of docs/models.md, on files as its names say."""
    made = network(keras)
    save(tmp_path).rename(tmp_path / "mobilenet.onnx")
    (tmp_path / "imagenet.txt").write_text("tench\ngoldfish\nshark\nray\n")
    made.save(tmp_path / "resnet.keras")
    (tmp_path / "tm").mkdir()
    made.save(tmp_path / "tm" / "keras_model.h5")
    (tmp_path / "tm" / "labels.txt").write_text("0 Cat\n1 Dog\n2 none\n")
    shutil.make_archive(str(tmp_path / "teachable"), "zip", tmp_path / "tm")
    for number, image in enumerate(photographs.crops(12)):
        place = tmp_path / "leaves" / THREE[number % 3] / f"{number}.bmp"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image)
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    section = page.partition("## Bring your own")[2].partition("\n## ")[0]
    commands = re.findall(r"^sightstream (models import .*)$", section, re.M)
    assert len(commands) >= 3
    monkeypatch.chdir(tmp_path)
    for line in commands:
        command = [sys.executable, "-m", "sightstream", *shlex.split(line)]
        done = subprocess.run(
            [*command, "--home", str(settings.root)], capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, (line, done.stderr)
    registry = Registry(settings.registry_address)
    assert sorted(registry.names()) == ["leaf", "pets", "things"]
    assert registry.version("leaf", 1).metrics["test_images"] == 12
    assert "champion" in registry.version("pets").aliases


# Code


def test_code_in_a_keras_file_never_runs(tmp_path, keras):
    made, place = tmp_path / "made", str(tmp_path / "made")
    layer = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(place).touch(), x)[1])
    for suffix in (".keras", ".h5"):
        network(keras, layer).save(tmp_path / f"m{suffix}")
        made.unlink()  # which it has made where it was built
        with pytest.raises(InputError, match="a Lambda layer, which is code"):
            bring(tmp_path / f"m{suffix}", UNIT)
    assert not made.exists()


def test_a_custom_layer_is_refused(tmp_path, keras):
    @keras.saving.register_keras_serializable("mine")
    class Own(keras.layers.Layer):
        def call(self, x):
            raise AssertionError("it ran")

    try:
        config = json.loads(network(keras).to_json())
        config["config"]["layers"].insert(
            1, {"class_name": "mine>Own", "config": {"name": "own"}, "module": "mine"}
        )
        import h5py

        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.attrs["model_config"] = json.dumps(config)
        with pytest.raises(InputError, match="custom object 'mine>Own'"):
            bring(tmp_path / "m.h5", UNIT)
    finally:
        keras.saving.get_custom_objects().clear()


@pytest.mark.parametrize(
    "operation", ["io.write_file", "py_function", "io.read_file", "keras.models.load_model"]
)
def test_an_operation_that_touches_files_is_refused(tmp_path, keras, operation):
    import h5py

    config = json.loads(network(keras).to_json())
    config["config"]["layers"].append(
        {"class_name": "TFOpLambda", "config": {"name": "op", "function": operation}}
    )
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(InputError, match=r"operation.*not allowed"):
        bring(tmp_path / "m.h5", UNIT)


def test_weights_alone_are_refused(tmp_path, keras):
    network(keras).save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(InputError, match="weights without their network"):
        bring(tmp_path / "m.weights.h5", UNIT)


@pytest.mark.parametrize("kind", ["write", "read", "python", "restore", "start"])
def test_a_saved_model_that_touches_files_is_never_loaded(tmp_path, kind, monkeypatch):
    import tensorflow as tf

    target = str(tmp_path / "made")

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, x):
            if kind == "write":
                tf.io.write_file(target, "x")
            elif kind == "read":
                x += tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)
            elif kind == "python":
                x = tf.py_function(lambda v: v, [x], tf.float32)
            elif kind == "restore":
                x += tf.raw_ops.RestoreV2(
                    prefix=target, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
                )[0]
            return tf.reduce_mean(x, axis=[1, 2])

        @tf.function(input_signature=[])
        def start(self):
            """Which no signature reaches, and TensorFlow may call while it loads."""
            return tf.raw_ops.RestoreV2(
                prefix=target, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
            )

    module = Evil()
    if kind != "start":
        del Evil.start
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.__call__)
    monkeypatch.setattr(tf.saved_model, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match="may touch files or run code"):
        bring(tmp_path / "m", UNIT)
    assert not (tmp_path / "made").exists()


def test_a_damaged_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 50)
    with pytest.raises(InputError, match="cannot be read"):
        bring(tmp_path, UNIT)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_damaged_keras_file_is_refused(tmp_path, keras, name):
    network(keras).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        bring(tmp_path / name, UNIT)


def test_a_damaged_index_of_an_h5_file_names_the_file(tmp_path, keras):
    place = tmp_path / "m.h5"
    network(keras).save(place)
    whole = place.read_bytes()
    place.write_bytes(whole.replace(b"SNOD", b"????"))
    with pytest.raises(InputError, match=r"m\.h5"):
        bring(place, UNIT)
    place.write_bytes(whole.replace(b"TREE", b"????"))
    with pytest.raises(InputError, match=r"m\.h5"):
        bring(place, UNIT)


def test_answers_change_with_the_picture(tmp_path, keras):
    network(keras).save(tmp_path / "m.keras")
    engine = served(bring(tmp_path / "m.keras", UNIT)).load()
    noise = np.random.default_rng(1).integers(0, 256, (2, 24, 20, 3)).astype(np.uint8)
    answers = engine(noise)
    assert np.abs(answers[0] - answers[1]).max() > 1e-7
