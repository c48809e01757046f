"""What a user has set for Hadoop, Keras and TensorFlow elsewhere changes nothing here."""

import json
import shutil

import pytest

CORE_SITE = """<configuration>
<property><name>fs.defaultFS</name><value>hdfs://127.0.0.1:1</value></property>
</configuration>"""


HOME = {
    "checkpoints", "images", "inbox", "lock", "logs", "manifests", "predictions", "registry",
    "reports", "starter", "stream.json", "tmp", "training",
}  # fmt: skip


@pytest.fixture
def home(new_home, tmp_path, monkeypatch):
    (tmp_path / "core-site.xml").write_text(CORE_SITE)
    keras = {"backend": "torch", "image_data_format": "channels_first", "floatx": "float16"}
    (tmp_path / "keras.json").write_text(json.dumps(keras))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    home = new_home(own_registry=True)
    shutil.rmtree(home.settings.registry)
    return home


def test_the_starter_is_trained_and_served(home, starter):
    home.settings.inbox.mkdir()
    shutil.copyfile(starter.digits[0], home.settings.inbox / "x.png")
    done = home("run", "--once", "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert "no model yet: training the starter model" in done.stderr
    (row,) = home.table().to_pylist()
    assert (row["status"], row["label"]) == ("ok", starter.digits[0].name[0])
    said = home("predict", starter.digits[0], "--json")
    assert json.loads(said.stdout)[0]["top"][0]["label"] == row["label"]
    # All commands ran in the home's folder, where nothing is but the home.
    assert {path.name for path in home.settings.root.iterdir()} == HOME
