"""Folders of a model and what describes it: Hugging Face, timm, Teachable Machine, MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightstream.errors import InputError, first_line
from sightstream.models.bring import labels
from sightstream.models.bring.foreign import Fact, Facts, Foreign
from sightstream.models.bring.scale import NAMED, Scale

Read = Callable[[Path], Foreign]

_RESAMPLE = {0: "box", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "bilinear"}
_INTERPOLATION = {"bilinear", "bicubic", "lanczos", "box"}
_SHOWN = "preprocessor_config.json"
_BY_SHORTEST_EDGE = (
    "Bit", "CLIP", "ConvNext", "Levit", "MobileNetV", "MobileViT", "PoolFormer"
)  # fmt: skip
"""Processors whose `size`, if it is a bare number, is the shortest edge's."""
_WHOLE_FROM = 384
"""From this size on those with a `crop_pct` stretch the whole picture."""


def teachable_machine(folder: Path, read: Read) -> Foreign:
    """Read an export of Teachable Machine for TensorFlow: a model, and labels.txt."""
    found = [folder / name for name in ("model.savedmodel", "keras_model.h5", "model.h5")]
    inner = next((each for each in found if each.exists()), None)
    if inner is None:
        raise InputError(
            f"{folder.name} has labels.txt without keras_model.h5 or model.savedmodel; in "
            "Teachable Machine choose Export Model, Tensorflow, Keras"
        )
    foreign, source = read(inner), "Teachable Machine's export"
    told: Facts = {
        "labels": Fact(labels.from_text(labels.read(folder / "labels.txt")), "labels.txt"),
        "scale": Fact(NAMED["-1..1"], source),
        "aspect": Fact("crop", source),
        "resize": Fact("lanczos", source),
    }
    return replace(foreign, kind=f"Teachable Machine, {foreign.kind}", facts=foreign.facts | told)


def labelled(folder: Path, foreign: Foreign) -> Foreign:
    """Add the labels of a labels.txt beside a model, where its file does not tell them."""
    place = folder / "labels.txt"
    if "labels" in foreign.facts or not place.is_file():
        return foreign
    names = Fact(labels.from_text(labels.read(place)), place.name)
    return replace(foreign, facts=foreign.facts | {"labels": names})


def hugging_face(folder: Path, read: Read) -> Foreign:
    """Read a folder with config.json, preprocessor_config.json and an ONNX file."""
    files = [folder / "model.onnx", folder / "onnx" / "model.onnx", *sorted(folder.glob("*.onnx"))]
    inner = next((each for each in files if each.is_file()), None)
    if inner is None:
        raise InputError(
            f"{folder} holds no ONNX file; make one beside its weights: optimum-cli export onnx "
            f"--model {folder} {folder} (pip install 'optimum[onnx]')"
        )
    config = _json(folder / "config.json")
    _require_classifier(config)
    facts = _labels_of(config)
    if isinstance(timm := config.get("pretrained_cfg"), dict):
        facts |= _timm(timm)
    elif (folder / _SHOWN).is_file():
        facts |= _preprocessor(_json(folder / _SHOWN))
    foreign = read(inner)
    return replace(foreign, kind=f"Hugging Face, {foreign.kind}", facts=foreign.facts | facts)


def mlflow(folder: Path, read: Read) -> Foreign:
    """Read an MLflow model of the flavours onnx, keras and tensorflow; its code never runs."""
    import yaml

    try:
        flavours = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))["flavors"]
        flavours = {key: value for key, value in flavours.items() if isinstance(value, dict)}
    except (OSError, UnicodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'MLmodel'} cannot be read: {first_line(error)}") from None
    flavour = next((each for each in ("onnx", "keras", "tensorflow") if each in flavours), None)
    if flavour is None:
        raise InputError(
            f"{folder} is an MLflow model of the flavour(s) {', '.join(flavours)}; those of onnx, "
            "keras and tensorflow can be imported: export a pytorch one to ONNX"
        )
    told = flavours[flavour]
    place = str(told.get("data") or told.get("saved_model_dir") or "data")
    root = (folder / place).resolve()
    if not root.is_relative_to(folder.resolve()):
        raise InputError(f"{folder / 'MLmodel'} names {place!r}, which leads out of its folder")
    names = ("model.onnx", "model.keras", "model.h5", "model", "tfmodel", ".")
    candidates = [root] if root.is_file() else [root / name for name in names]
    fits = [e for e in candidates if e.is_file() or (e / "saved_model.pb").is_file()]
    if not fits:
        raise InputError(f"{folder} holds no model in {place}")
    foreign = read(fits[0])
    return replace(foreign, kind=f"MLflow, {foreign.kind}")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object")
    return found


def _labels_of(config: dict[str, Any]) -> Facts:
    for key in ("id2label", "label2id", "label_names"):
        if key in config and (found := labels.from_value(config[key])):
            return {"labels": Fact(found, f"config.json ({key})")}
    return {}


def _require_classifier(config: dict[str, Any]) -> None:
    """Refuse what the description says to be for another task."""
    named = config.get("architectures") or ()
    if other := [str(name) for name in named if re.search(r"For(?!ImageClass)", str(name))]:
        raise InputError(
            f"config.json tells the architecture {other[0]}; a classifier of images is one "
            "ForImageClassification"
        )
    if config.get("problem_type") == "multi_label_classification":
        raise InputError(
            "config.json tells multi_label_classification: it answers with several labels for an "
            "image, and here an image has one"
        )


def _timm(told: dict[str, Any]) -> Facts:
    source = "config.json (pretrained_cfg)"
    facts: Facts = {}
    if "mean" in told and "std" in told:
        mean, std = _figures(told["mean"], source), _figures(told["std"], source)
        facts["scale"] = Fact(Scale(255, mean, std), source)
    if isinstance(size := told.get("input_size"), list) and len(size) == 3:
        facts["size"] = Fact((int(size[1]), int(size[2])), source)
    squash = told.get("crop_mode") == "squash"
    facts["aspect"] = Fact("stretch" if squash else "crop", source)
    if isinstance(share := told.get("crop_pct"), int | float) and 0 < share <= 1:
        facts["crop"] = Fact(float(share), source)
    if told.get("interpolation") in _INTERPOLATION:
        facts["resize"] = Fact(told["interpolation"], source)
    return facts


def _preprocessor(told: dict[str, Any]) -> Facts:
    facts: Facts = {}
    unit, offset = 1.0, 0.0
    if told.get("do_rescale", True):
        unit = 1 / float(told.get("rescale_factor", 1 / 255))
        offset = 1.0 if told.get("rescale_offset") else 0.0
        unit = round(unit, 6)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if told.get("do_normalize", True) and "image_mean" in told and "image_std" in told:
        mean, std = (_figures(told[key], _SHOWN) for key in ("image_mean", "image_std"))
        if told.get("include_top"):  # EfficientNet's divides twice
            std = tuple(value**2 for value in std)
    mean = tuple(value + offset for value in mean)
    bgr = bool(told.get("do_flip_channel_order", False))
    facts["scale"] = Fact(Scale(unit, mean, std, bgr), _SHOWN)
    if (resample := told.get("resample")) in _RESAMPLE:
        facts["resize"] = Fact(_RESAMPLE[resample], _SHOWN)
    return facts | _size(told)


def _size(told: dict[str, Any]) -> Facts:
    """Size, aspect and crop: the sides that the picture is resized to, and the centre of it."""
    size, resized, cropped = (
        told.get("size"),
        _sides(told.get("size")),
        _sides(told.get("crop_size")),
    )
    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")
    short = (
        "shortest_edge" in size if isinstance(size, dict) else kind.startswith(_BY_SHORTEST_EDGE)
    )
    if not resized:
        return {}
    if not told.get("do_center_crop"):
        cropped = None
    final = cropped or resized
    kept = min(1.0, final[0] / resized[0])
    if short and isinstance(share := told.get("crop_pct"), int | float):
        short = resized[0] < _WHOLE_FROM
        kept, final = (float(share) if short else 1.0), resized
    elif kind.startswith("Levit"):
        kept = 224 / 256
    values = {"size": final, "aspect": "crop" if short else "stretch", "crop": kept}
    return {key: Fact(value, _SHOWN) for key, value in values.items()}


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, dict):
        size = size.get("shortest_edge") or [size.get("height"), size.get("width")]
    if isinstance(size, int):
        size = [size, size]
    if isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) for s in size):
        return int(size[0]), int(size[1])
    return None


def _figures(values: Any, source: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, values))
    except (TypeError, ValueError):
        raise InputError(f"{source} has a mean or std that is no list of numbers") from None
