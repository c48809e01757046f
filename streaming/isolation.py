"""A micro-batch whose job failed, once more: image by image, in a child that may die."""

from __future__ import annotations

import logging
import resource
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from sightstream.classify import Answer, Classifier
from sightstream.imaging import Limits
from sightstream.models import ServedModel

log = logging.getLogger(__name__)

SECONDS = 60.0
"""The time that an image may take, the start of a child included."""

MEMORY = 4 * 2**30
"""The bytes that a child may allocate."""


def classify(
    paths: Sequence[str], model: ServedModel, limits: Limits, top_k: int, seconds: float = SECONDS
) -> list[Answer]:
    """Classifies local files; an image that ends its child, or takes too long, is rejected.

    Args:
        paths: local files.
        model: what answers.
        limits: larger images are rejected.
        top_k: how many labels an answer holds, at most.
        seconds: the time that an image may take.
    """
    answers: list[Answer] = []
    child: _Child | None = None
    try:
        for path in paths:
            child = child or _Child(model, limits, top_k)
            answer = child.ask(path, seconds)
            answers.append(answer)
            if answer.error_code in {"crashed", "timeout"}:
                log.warning("%s: %s", path, answer.error_detail)
                child.end()
                child = None
    finally:
        if child:
            child.end()
    return answers


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

    def ask(self, path: str, seconds: float) -> Answer:
        try:
            self._connection.send(path)
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
