"""A folder of TensorFlow's SavedModel; its graph is looked through before TensorFlow loads it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sightstream.errors import InputError, first_line
from sightstream.models.bring.foreign import Fact, Facts, Foreign
from sightstream.models.bring.tensorflow_graph import to_onnx

FILE = "saved_model.pb"

_CALCULATES = Path(__file__).with_name("calculating.txt")
"""Operations of TensorFlow that only calculate: no others are allowed."""

_SAVES = frozenset(
    [
        "SaveV2",
        "RestoreV2",
        "MergeV2Checkpoints",
        "ShardedFilename",
        "StringJoin",
        "StaticRegexFullMatch",
        "Assign",
    ]
)
"""Operations of TensorFlow's own saver, which nothing that answers may reach."""


def read(path: Path, size: tuple[int, int] | None = None) -> Foreign:
    """Read a folder, of which the signature `serving_default` answers."""
    require_harmless(path)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from sightstream.models.engines import import_keras

    import_keras()
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise InputError(f"TensorFlow does not load {path}: {first_line(error)}") from error
    signatures = loaded.signatures
    chosen = "serving_default" if "serving_default" in signatures else next(iter(signatures), "")
    if not chosen:
        raise InputError(f"{path} has no signature; save it with model.export(folder)")
    signature = signatures[chosen]
    inputs = signature.structured_input_signature[1]
    outputs = signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"the signature {chosen} of {path} has {len(inputs)} inputs and {len(outputs)} "
            f"outputs ({', '.join(outputs)}); a classifier has one of each: this looks like a "
            "model for detection or several tasks"
        )
    (key, spec), (answer_key,) = next(iter(inputs.items())), outputs
    shape = _shape(path, spec, size)
    model, answer = to_onnx(lambda x: signature(**{key: x})[answer_key], shape, spec.dtype)
    facts: Facts = {"layout": Fact("nhwc", "TensorFlow")} if shape[3] in (1, 3) else {}
    if size and facts and None in spec.shape.as_list()[1:3]:
        facts["size"] = Fact(size, "--size")
    return Foreign(
        "SavedModel", model, _alive(answer, loaded), f"TensorFlow {tf.__version__}", facts
    )


def _alive(answer: Any, loaded: Any) -> Any:
    """The variables live as long as what was loaded."""
    answer.loaded = loaded
    return answer


def _shape(path: Path, spec: Any, size: tuple[int, int] | None) -> list[int | None]:
    if spec.shape.rank != 4:
        raise InputError(
            f"{path} takes {spec.shape.rank} dimensions; images have 4: number, height, width and "
            "channels"
        )
    batch, height, width, channels = spec.shape.as_list()
    free = size or (None, None)
    return [batch, height or free[0], width or free[1], channels]


def require_harmless(path: Path) -> None:
    """Refuse a graph with operations that are not known to only calculate."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    found = SavedModel()
    try:
        found.ParseFromString((path / FILE).read_bytes())
    except (OSError, DecodeError) as error:
        raise InputError(f"{path / FILE} cannot be read: {first_line(error)}") from None
    for graph in found.meta_graphs:
        functions = {each.signature.name: each for each in graph.graph_def.library.function}
        everything = {*_operations(graph.graph_def.node)}
        for function in functions.values():
            everything |= {*_operations(function.node_def)}
        calculates = {*_CALCULATES.read_text().split()}
        _refuse(path, everything - calculates - _SAVES - functions.keys())
        saver = _saver(graph)
        reached = _reached(graph, functions, saver)
        _refuse(path, reached & _SAVES)


def _refuse(path: Path, operations: set[str]) -> None:
    if operations:
        raise InputError(
            f"{path} has the operation(s) {', '.join(sorted(operations)[:5])}, which may touch "
            "files or run code, or are not known here; export the bare network, from pixels to "
            "scores"
        )


def _saver(graph: Any) -> set[str]:
    """Names of the nodes that only TensorFlow's saver runs."""
    saver = graph.saver_def
    names = (saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name)
    return {name.partition(":")[0] for name in names if name}


def _reached(graph: Any, functions: dict[str, Any], saver: set[str]) -> set[str]:
    """The operations that signatures and functions reach, those of the saver left out."""
    nodes = {node.name: node for node in graph.graph_def.node}
    wanted = [
        tensor.name.partition(":")[0]
        for signature in graph.signature_def.values()
        for tensor in signature.outputs.values()
    ]
    seen: set[str] = set()
    operations: set[str] = set()
    # TensorFlow may call these while it loads, such as what initialises a resource.
    called: set[str] = {*graph.object_graph_def.concrete_functions}
    while wanted:
        name = wanted.pop().lstrip("^").partition(":")[0]
        if name in seen or name not in nodes or name in saver:
            continue
        seen.add(name)
        operations.add(nodes[name].op)
        called |= {*_called(nodes[name])}
        wanted += nodes[name].input
    pending = list(called)
    while pending:
        function = functions.pop(pending.pop(), None)
        if function is not None:
            operations |= {*_operations(function.node_def)}
            for node in function.node_def:
                pending += _called(node)
    return operations


def _operations(nodes: Iterable[Any]) -> Iterator[str]:
    return (node.op for node in nodes)


def _called(node: Any) -> list[str]:
    names = [each.func.name for each in node.attr.values() if each.HasField("func")]
    names += [f.name for each in node.attr.values() for f in each.list.func]
    return [*names, node.op]
