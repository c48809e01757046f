"""Finds out by content what kind of model a file or folder is, and reads it."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

from sightstream.errors import InputError, SightstreamError, first_line
from sightstream.models.bring import archive, folders
from sightstream.models.bring.foreign import Foreign

_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".bin", ".pt2", ".sav"}
_TO_ONNX = (
    "export it to ONNX where it was made: torch.onnx.export(model.eval(), "
    "torch.zeros(1, 3, 224, 224), 'model.onnx', dynamic_axes={'input': {0: 'n'}}, "
    "input_names=['input'])"
)
READS = (
    ".onnx, .keras, .h5, a SavedModel folder, a Teachable Machine zip, a Hugging Face folder with "
    "an ONNX file, or an MLflow model"
)


def read(path: Path, size: tuple[int, int] | None = None) -> Foreign:
    """Read the model at a path; `size` is for networks whose file leaves it free.

    Raises:
        InputError: there is no model, or one that cannot be imported, with what to do.
    """
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    if not path.is_dir() and not path.is_file():  # whose reading might never end
        raise InputError(f"{path} is a pipe or a device, and no file or folder")
    try:
        return _folder(path, size) if path.is_dir() else _file(path, size)
    except (SightstreamError, ImportError):
        raise
    except Exception as error:  # of damaged files, by the libraries that read them
        if isinstance(error, OSError) and error.errno:  # of the system, not of a library
            raise
        raise InputError(f"{path} is damaged, or not of its kind: {first_line(error)}") from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    if not path.is_dir():
        return _sha256(path) if path.exists() else ""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    lines = (f"{_sha256(each)}  {each.relative_to(path)}\n" for each in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path, size: tuple[int, int] | None) -> Foreign:
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise InputError(f"{path} is empty")
    if start[4:8] == b"TFL3":
        raise _converted(path, "TensorFlow Lite", f"--tflite {path.name}")
    if path.name == "model.json":
        raise _converted(path, "TensorFlow.js", "--tfjs model.json")
    if path.suffix == ".safetensors":
        raise InputError(f"{path} holds weights without their network; {_TO_ONNX}")
    if zipfile.is_zipfile(path):
        return _archive(path, size)
    if path.suffix.lower() in _PICKLES or start[:1] == b"\x80":
        raise _pickle(path)
    if start.startswith(b"\x89HDF"):
        return _keras(path, size)
    if path.suffix.lower() != ".onnx" and start[:1] != b"\x08":
        raise InputError(f"{path} is no model that can be imported; there are: {READS}")
    from sightstream.models.bring import onnx_file

    return onnx_file.read(path)


def _archive(path: Path, size: tuple[int, int] | None) -> Foreign:
    with zipfile.ZipFile(path) as file:
        names = set(file.namelist())
    if any(name.endswith("data.pkl") for name in names) or path.suffix.lower() in _PICKLES:
        raise _pickle(path)
    if {"config.json", "metadata.json"} <= names:
        return _keras(path, size)
    with tempfile.TemporaryDirectory() as folder:
        return _folder(archive.unpack(path, Path(folder)), size)


def _keras(path: Path, size: tuple[int, int] | None) -> Foreign:
    from sightstream.models.bring import keras_file

    return keras_file.read(path, size)


def _folder(path: Path, size: tuple[int, int] | None) -> Foreign:
    def inner(found: Path) -> Foreign:
        return read(found, size)

    names = {each.name for each in path.iterdir()}
    if "MLmodel" in names:
        return folders.mlflow(path, inner)
    models = sorted(each for each in path.iterdir() if each.suffix in (".onnx", ".keras"))
    if "labels.txt" in names and not models:
        return folders.teachable_machine(path, inner)
    if "saved_model.pb" in names:
        from sightstream.models.bring import saved_model

        return saved_model.read(path, size)
    if others := sorted(n for n in names if n == "model.json" or n.endswith(".tflite")):
        return inner(path / others[0])
    if "config.json" in names:
        return folders.hugging_face(path, inner)
    models = models or sorted(path.glob("*.h5"))
    if len(models) == 1:
        return folders.labelled(path, inner(models[0]))
    raise InputError(f"{path} is a folder of no model; there are: {READS}")


def _converted(path: Path, kind: str, option: str) -> InputError:
    return InputError(
        f"{path} is a {kind} model; import the model it was made from (in Teachable Machine: "
        f"Export Model, Tensorflow, Keras), or convert it: python -m tf2onnx.convert {option} "
        "--output model.onnx"
    )


def _pickle(path: Path) -> InputError:
    return InputError(f"{path} is a pickle, which runs code when it is read; {_TO_ONNX}")
