"""A faster engine for a version, by measurement: those that this machine offers are tried."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import first_line
from sightstream.models import engines
from sightstream.models.engines import Int8, Onnx, Predict
from sightstream.models.pace import Paced, fitting

log = logging.getLogger(__name__)

GAIN, SAME = 1.3, 0.995
"""What an engine must reach to be kept: its speed in multiples of ONNX Runtime's, and the share of
held-out images that get the same label.
"""

CALIBRATED = 128
"""Images whose values in every layer decide on the scales of eight bits."""

_SECONDS = 1.0
"""Time for each measurement of speed."""


@dataclass(frozen=True)
class Tried:
    """An engine beside ONNX Runtime with 32 bits, on held-out images."""

    engine: str
    speed: float = 0.0  # in multiples
    same: float = 0.0  # share of equal labels
    f1: float | None = None  # macro F1 less that of 32 bits; None without labels of people
    fault: str = ""  # why it could not be tried

    @property
    def good(self) -> bool:
        """Whether it is fast enough, and answers as well."""
        return self.speed >= GAIN and self.same >= SAME and (self.f1 is None or self.f1 >= 0)

    def __str__(self) -> str:
        if self.fault:
            return f"{self.engine}: {self.fault}"
        figures = f"{self.engine}: {self.speed:.2f} times as fast, {self.same:.2%} of labels equal"
        return figures + ("" if self.f1 is None else f", macro F1 {self.f1:+.4f}")


def optimise(
    files: Path, calibration: NDArray[np.uint8], held_out: NDArray[np.uint8],
    truth: NDArray[np.int64] | None = None,
) -> dict[str, str]:  # fmt: skip
    """Try engines for the ONNX file of a version, and keep the files of the fastest good one.

    Args:
        files: The version's folder, before its card is written.
        calibration: Images (n, height, width, channels) of the training.
        held_out: Images that the training did not use.
        truth: The indices of their labels, where they are known.

    Returns:
        Entries for the card's `training`: `optimised`, the engine that `auto` is to take, "no"
        where none is good; and `optimised_tried`, all that was tried, in words.
    """
    if not (files / Onnx.file).exists():
        return {"optimised": "no", "optimised_tried": "there is no ONNX file"}
    fault = _eight_bits(files, calibration)
    tried = []
    for name in filter(engines.usable, engines.FASTER):
        if fault and engines.engine(name).file == Int8.file:
            tried.append(Tried(name, fault=fault))
        else:
            tried.append(_compared(name, files, held_out, truth))
    best = max(filter(lambda each: each.good, tried), key=lambda each: each.speed, default=None)
    if not best or engines.engine(best.engine).file != Int8.file:
        (files / Int8.file).unlink(missing_ok=True)
    return {
        "optimised": best.engine if best else "no",
        "optimised_tried": "; ".join(map(str, tried)),
    }


def _eight_bits(files: Path, calibration: NDArray[np.uint8]) -> str:
    """Write the file of `Int8`, or return why there is none."""
    try:
        quantise(files / Onnx.file, files / Int8.file, calibration[:CALIBRATED])
    except Exception as error:  # of many kinds, by graph
        log.warning("no file with eight bits: %s", first_line(error))
        return first_line(error)
    return ""


def quantise(source: Path, target: Path, images: NDArray[np.uint8]) -> None:
    """Write an ONNX file whose layers calculate with eight bits, as scaled for these images.

    Raises:
        ModuleNotFoundError: onnx is not installed.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    (name,) = (each.name for each in _session_inputs(source))

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._chunks: Iterator[NDArray[np.uint8]] = iter(np.array_split(images, len(images)))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            chunk = next(self._chunks, None)
            return None if chunk is None else {name: chunk}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / source.name
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        left = _last_layers(prepared)
        quantization.quantize_static(
            prepared, target, Images(), quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, per_channel=True, nodes_to_exclude=left,
            # Else sums overflow, with no word of it, on processors without VNNI.
            reduce_range=True,
        )  # fmt: skip


def _last_layers(path: Path) -> list[str]:
    """Name the nodes of a graph, and return those from the classifier on: they keep 32 bits.

    In eight, scores would be multiples of 1/255, whose sum is not 1, and take no time anyway.
    """
    import onnx

    graph = onnx.load(path)
    nodes = graph.graph.node
    for number, node in enumerate(nodes):
        node.name = f"{number}-{node.name}"
    onnx.save(graph, path)
    layers = (n for n, node in enumerate(nodes) if node.op_type in {"Conv", "Gemm", "MatMul"})
    return [node.name for node in nodes[max(layers, default=0) :]]


def _session_inputs(path: Path) -> list:
    import onnxruntime

    inputs: list = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    ).get_inputs()
    return inputs


def _compared(
    name: str, files: Path, held_out: NDArray[np.uint8], truth: NDArray[np.int64] | None
) -> Tried:
    most = fitting(*held_out.shape[1:3])
    kind = engines.engine(name)
    try:
        ours = Paced(Onnx((files / Onnx.file).read_bytes(), "cpu"), most)
        other = Paced(kind((files / kind.file).read_bytes()), most)
        before, after = ours(held_out).argmax(axis=1), other(held_out).argmax(axis=1)
    except Exception as error:  # of many kinds, by engine and graph
        return Tried(name, fault=first_line(error))
    gain = None if truth is None else _macro_f1(after, truth) - _macro_f1(before, truth)
    return Tried(name, _times_as_fast(other, ours, held_out), float((before == after).mean()), gain)


def _times_as_fast(engine: Predict, other: Predict, images: NDArray[np.uint8]) -> float:
    """Measure both in turn, since the machine's speed changes; the least times count."""
    images = images[: 4 * fitting(*images.shape[1:3])]
    times: tuple[list[float], list[float]] = [], []
    until = process_time() + 2 * _SECONDS
    while len(times[0]) < 3 or process_time() < until:
        for run, taken in zip((engine, other), times, strict=True):
            begin = process_time()
            run(images)
            taken.append(process_time() - begin)
    return min(times[1]) / max(min(times[0]), 1e-9)


def _macro_f1(answers: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The mean F1 of the classes that are there."""
    figures = [
        2 * np.sum((answers == each) & (truth == each))
        / (np.sum(answers == each) + np.sum(truth == each))
        for each in np.unique(truth)
    ]  # fmt: skip
    return float(np.mean(figures))
