"""engines.import_keras: what a user has set for Keras elsewhere changes no model of ours."""

import json
import os
import subprocess
import sys

ASK = """
from sightstream.errors import SightstreamError
from sightstream.models.engines import import_keras
try:
    keras = import_keras()
    shape = keras.layers.Conv2D(2, 3)(keras.Input((8, 9, 1))).shape
    print(keras.config.backend(), keras.config.floatx(), shape)
except SightstreamError as error:
    print(error)
"""


def ask(tmp_path, settings, code=ASK, **variables):
    (tmp_path / "keras.json").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env=os.environ | {"KERAS_HOME": str(tmp_path)} | variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OTHER = {"backend": "torch", "floatx": "float16", "image_data_format": "channels_first"}


def test_other_settings_of_keras_change_no_model(tmp_path):
    other = {"KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": "1"}
    said = ask(tmp_path, json.dumps(OTHER), **other)
    assert said == "tensorflow float32 (None, 6, 7, 2)"


def test_settings_that_keras_does_not_start_with_are_named(tmp_path):
    said = ask(tmp_path, json.dumps({"image_data_format": "upside down"}))
    assert said.startswith("Keras does not start (")
    assert said.endswith(f"correct or remove {tmp_path}/keras.json")
