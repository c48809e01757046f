"""The wheel in an environment of its own: the core serves without the extras' packages."""

import email
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from deltalake import DeltaTable

from sightstream import config
from tests import tiny_model

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
ABSENT = ("tensorflow", "keras", "elephas", "duckdb", "streamlit", "kafka", "matplotlib", "sklearn")


def run(*command, **options):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SIGHTSTREAM_"))}
    done = subprocess.run(
        list(map(str, command)), env=clean, capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require_index():
    asked = subprocess.run(
        [UV, "pip", "compile", "--quiet", "--no-cache", "-"], input="wheel", text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    if asked.returncode:
        pytest.skip(f"no package index can be reached: {asked.stderr[-300:]}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the sdist, as an index's users may do."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The programs of an environment that holds the core alone, as locked."""
    folder = tmp_path_factory.mktemp("core")
    pins = folder / "pins.txt"
    locked = (ROOT / "requirements.lock").read_text()
    pins.write_text("\n".join(re.findall(r"^[a-zA-Z0-9].*==[^\\\n]*", locked, re.MULTILINE)))
    return installed(wheel, folder, sys.executable, "--constraints", pins)


def installed(wheel, folder, python, *options):
    """The programs of a new environment that holds the core.

    pyspark is linked: it has no wheel, and an installation would build it for 40 s.
    """
    without = folder / "without.txt"
    without.write_text("pyspark; python_version < '3'\n")
    run(UV, "venv", "--python", python, folder / "venv")
    programs = folder / "venv" / "bin"
    options = ("--overrides", without, *options)
    run(UV, "pip", "install", "--python", programs / "python", *options, wheel, cwd=folder)
    (packages,) = programs.parent.glob("lib/python3*/site-packages")
    for name in ("pyspark", "py4j"):
        for each in Path(sysconfig.get_path("purelib")).glob(f"{name}*"):
            (packages / each.name).symlink_to(each)
    return programs


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose registry got its version elsewhere, and whose inbox has images."""
    folder = tmp_path_factory.mktemp("home")
    settings = config.Settings(home=folder / "data")
    tiny_model.register(settings, "starter", folder / "version")
    tiny_model.photograph(settings.inbox / "white.png", 255)
    tiny_model.photograph(settings.inbox / "black.png", 0)
    return settings.root


def test_the_core_has_none_of_the_extras_packages(environment):
    script = f"""
import importlib.util
print([name for name in {ABSENT} if importlib.util.find_spec(name)])"""
    assert run(environment / "python", "-Ic", script) == "[]\n"


def test_a_version_that_was_trained_elsewhere_is_served(environment, home):
    flags = ("--once", "--metrics-port", "0", "--home", home)
    run(environment / "sightstream", "run", *flags, cwd=home.parent)
    table = DeltaTable(home / "predictions").to_pyarrow_table(columns=["original_name", "label"])
    rows = sorted((row["original_name"], row["label"]) for row in table.to_pylist())
    assert rows == [("black.png", "dark"), ("white.png", "bright")]


def test_predict_needs_no_spark(environment, home):
    image = tiny_model.photograph(home / "grey.png", 128)
    answer = run(environment / "sightstream", "predict", image, "--home", home, cwd=home.parent)
    assert "grey" in answer


def test_the_oldest_python_and_packages_serve(wheel, home, tmp_path):
    """The bounds of pyproject.toml are those of versions that work, pyspark's aside."""
    oldest = subprocess.run([UV, "python", "find", "3.11"], capture_output=True, text=True)
    if oldest.returncode:
        pytest.skip("Python 3.11 is not installed")
    lowest = "--resolution", "lowest-direct"
    programs = installed(wheel, tmp_path, oldest.stdout.strip(), *lowest)
    image = tiny_model.photograph(tmp_path / "grey.png", 128)
    answer = run(programs / "sightstream", "predict", image, "--home", home, cwd=home.parent)
    assert "grey" in answer


def test_the_extras_are_in_the_metadata(wheel):
    with zipfile.ZipFile(wheel) as files:
        (name,) = (each for each in files.namelist() if each.endswith("/METADATA"))
        metadata = email.message_from_bytes(files.read(name))
    assert set(metadata.get_all("Provides-Extra")) == {
        "all", "avro", "bucket", "dicom", "heif", "jxl", "kafka", "keras2", "openvino", "registry",
        "sql", "tiff", "train", "web",
    }  # fmt: skip
    wanted = metadata.get_all("Requires-Dist")
    assert any(re.match(r"kafka-python.*extra == 'kafka'", each) for each in wanted)
    # Without a lower bound, a resolver falls back to a release of 2021.
    assert "elephas<8,>=7.3; extra == 'train'" in wanted


@pytest.mark.parametrize(
    ("python", "resolution", "extras"),
    [
        ("3.11", "lowest-direct", ()),
        ("3.11", "lowest-direct", ("kafka", "sql", "web", "train")),
        ("3.13", "highest", ("kafka", "sql", "web", "train")),
        ("3.14", "highest", ()),
    ],
)
def test_both_ends_of_what_is_supported_resolve(python, resolution, extras):
    require_index()
    options = [each for extra in extras for each in ("--extra", extra)]
    found = run(
        UV, "pip", "compile", "--quiet", "--no-header", "--python-version", python,
        "--resolution", resolution, "pyproject.toml", *options, cwd=ROOT,
    )  # fmt: skip
    assert re.search(r"^pyspark==4\.", found, re.MULTILINE)
    assert ("elephas==7." in found) == ("train" in extras)
