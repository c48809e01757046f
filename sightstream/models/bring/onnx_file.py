"""An ONNX file, with what exporters write into its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError, first_line
from sightstream.models.bring import graph, labels
from sightstream.models.bring.foreign import Answer, Fact, Facts, Foreign
from sightstream.models.bring.scale import NAMED

MOST_BYTES = 2**30
"""Largest network, with its external data: an ONNX file cannot be larger than 2 GiB."""


def read(path: Path) -> Foreign:
    """Read a file; its external data must lie in the folder of the file."""
    import onnx
    from google.protobuf.message import DecodeError

    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES >> 30} GiB")
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        raise InputError(f"{path} is no ONNX model, or is cut short") from None
    if not model.graph.node:
        raise InputError(f"{path} is no ONNX model: its graph has no operator")
    _with_external_data(model, path)
    facts = _metadata({each.key: each.value for each in model.metadata_props})
    return Foreign("ONNX", model, _answer(path, model), _runtime(), facts)


def _with_external_data(model: Any, path: Path) -> None:
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

    folder, total = path.parent.resolve(), path.stat().st_size
    for tensor in graph.tensors(model):
        if not uses_external_data(tensor):
            continue
        entries = {each.key: each.value for each in tensor.external_data}
        place = (folder / entries.get("location", "")).resolve()
        if not place.is_relative_to(folder) or not place.is_file():
            raise InputError(
                f"{path} keeps weights in {entries.get('location')!r}, which is no file in its "
                "folder; put both into one folder"
            )
        total += int(entries.get("length", place.stat().st_size))
        if total > MOST_BYTES:
            raise InputError(f"{path} is larger than {MOST_BYTES >> 30} GiB with its weights")
        try:
            load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:  # whatever onnx finds wrong with lengths and links
            raise InputError(f"weights of {path} cannot be read: {first_line(error)}") from error
        tensor.data_location = 0
        del tensor.external_data[:]


def _answer(path: Path, model: Any) -> Answer:
    """The original file in ONNX Runtime, as many images at once as it takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            _in_float(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # an operator that it does not know, or a damaged graph
        raise InputError(f"ONNX Runtime does not run {path}: {first_line(error)}") from error
    given, batch = graph.the_input(model), graph.sides(model)[0] or 16
    name, kind = given.name, graph.TYPES[given.type.tensor_type.elem_type]

    def answer(images: NDArray[Any]) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            fill = np.repeat(part[-1:], batch - len(part), axis=0)
            filled = np.concatenate([part, fill]).astype(kind)
            rows.append(session.run(None, {name: filled})[0][: len(part)])
        return np.concatenate(rows).astype(np.float32)

    return answer


def _in_float(model: Any) -> Any:
    """The model with outputs of 32 bits: those of 16 are rounded only where they leave it."""
    from onnx import ModelProto, TensorProto, helper

    asked = ModelProto()
    asked.CopyFrom(model)
    for each in asked.graph.output:
        if each.type.tensor_type.elem_type == TensorProto.FLOAT16:
            name = f"{each.name}/float"
            asked.graph.node.append(
                helper.make_node("Cast", [each.name], [name], to=TensorProto.FLOAT)
            )
            each.name, each.type.tensor_type.elem_type = name, TensorProto.FLOAT
    return asked


def _runtime() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def _metadata(entries: dict[str, str]) -> Facts:
    facts: Facts = {}
    ours = "ultralytics" in entries.get("author", entries.get("description", "")).lower()
    source = "ultralytics' metadata" if ours else "the file's metadata"
    if ours and entries.get("task", "classify") != "classify":
        raise InputError(
            f"this is ultralytics' model for '{entries['task']}'; import one for 'classify'"
        )
    for key in ("names", "labels", "classes", "class_names", "id2label", "character"):
        if key in entries and (found := labels.from_metadata(entries[key])):
            facts["labels"] = Fact(found, f"{source} ({key})")
            break
    if ours:
        facts |= {"scale": Fact(NAMED["0..1"], source), "aspect": Fact("crop", source),
                  "resize": Fact("bilinear", source)}  # fmt: skip
        if size := labels.from_json(entries.get("imgsz", "")):
            sides = tuple(int(side) for side in size if side.isdecimal())
            if len(sides) in {1, 2}:
                facts["size"] = Fact(sides * (2 // len(sides)), source)
    return facts
