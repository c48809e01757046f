"""A micro-batch whose job failed, once more: image by image, in a child that may die."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from sightstream.classify import Answer, Classifier, Image
from sightstream.imaging import Limits
from sightstream.models import ServedModel

log = logging.getLogger(__name__)

SECONDS = 60.0
"""The time that an image may take, the start of a child included."""

MEMORY = 4 * 2**30
"""The bytes that a child may allocate."""


def classify(
    images: Iterable[Image], model: ServedModel, limits: Limits, top_k: int,
    seconds: float = SECONDS,
) -> Iterator[Answer]:  # fmt: skip
    """Classifies images; one that ends its child, or takes too long, is rejected.

    Args:
        images: as a `Classifier` takes them; each is asked for when the one before is answered.
        model: what answers.
        limits: larger images are rejected.
        top_k: how many labels an answer holds, at most.
        seconds: the time that an image may take.
    """
    child: _Child | None = None
    try:
        for image in images:
            child = child or _Child(model, limits, top_k)
            answer = child.ask(image, seconds)
            if answer.error_code in {"crashed", "timeout"}:
                shown = image if isinstance(image, str) else "the image of a message"
                log.warning("%s: %s", shown, answer.error_detail)
                child.end()
                child = None
            yield answer
    finally:
        if child:
            child.end()


class _Child:
    def __init__(self, model: ServedModel, limits: Limits, top_k: int) -> None:
        # Forking a process of several threads is not safe.
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, model, limits, top_k), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, image: Image, seconds: float) -> Answer:
        try:
            self._connection.send(image)
            if not self._connection.poll(seconds):
                return Answer("timeout", f"It was not classified within {seconds:g} seconds.")
            answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            return Answer("crashed", f"It ended the process that classified it (code {code}).")
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection, model: ServedModel, limits: Limits, top_k: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    classifier = Classifier(model, limits, top_k)
    while True:
        try:
            connection.send(classifier([connection.recv()])[0])
        except EOFError:
            return
        except Exception as error:
            connection.send(Answer("crashed", f"The model failed on it: {error}"))
