"""What sightstream is compared with: loops of a process per core, with nothing around them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import numpy as np
from PIL import Image

from sightstream.classify import Classifier
from sightstream.imaging import Limits
from sightstream.models import ServedModel


def bare(paths: Sequence[str], model: ServedModel, processes: int) -> float:
    """Images a second of a loop that reads, decodes and predicts with our decoder and engine."""
    return _side_by_side(_bare, paths, model, processes)


def full_decode(paths: Sequence[str], model: ServedModel, processes: int) -> float:
    """The same with a decoder as the guides write it: all pixels are decoded, then resized."""
    return _side_by_side(_full_decode, paths, model, processes)


Loop = Callable[[Sequence[str], ServedModel], Callable[[], None]]


def _bare(paths: Sequence[str], model: ServedModel) -> Callable[[], None]:
    classifier = Classifier(model, Limits(), top_k=3)
    classifier(paths[:64])
    return lambda: classifier(paths) and None


def _full_decode(paths: Sequence[str], model: ServedModel) -> Callable[[], None]:
    engine, p = model.load(), model.preprocessing

    def loop() -> None:
        for start in range(0, len(paths), 64):
            chunk = [
                np.asarray(Image.open(path).convert("RGB").resize((p.width, p.height)))
                for path in paths[start : start + 64]
            ]
            engine(np.stack(chunk))

    return loop


def _side_by_side(loop: Loop, paths: Sequence[str], model: ServedModel, processes: int) -> float:
    context = get_context("spawn")
    barrier, times = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=_timed, args=(loop, paths[n::processes], model, barrier, times))
        for n in range(processes)
    ]
    for child in children:
        child.start()
    spans = [times.get(timeout=600) for _ in children]
    for child in children:
        child.join()
    return len(paths) / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def _timed(
    loop: Loop, paths: Sequence[str], model: ServedModel, barrier: Barrier,
    times: Queue[tuple[float, float]],
) -> None:  # fmt: skip
    run = loop(paths, model)
    barrier.wait()
    begin = time.time()
    run()
    times.put((begin, time.time()))
