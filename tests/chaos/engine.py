"""An engine in ONNX Runtime's place, for versions of which some have a fault of their own."""

import ctypes
import os
import signal

import numpy as np
from numpy.typing import NDArray

from sightstream.models.engines import Onnx

MARK = b"chaos:"
"""Begins, behind the content of a model's file, the name of its fault."""

FAULTS = ("answers nothing", "dies", "grows", "hangs")
"""What a version may do instead of answering: NaN, a signal, memory without end, nothing."""


class Faulty(Onnx):
    """ONNX Runtime for all versions that have no fault."""

    def __init__(self, content: bytes, device: str = "auto") -> None:
        content, _, fault = content.partition(MARK)
        self._fault = fault.decode()
        super().__init__(content, device)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine` describes, or the fault."""
        held = []
        while self._fault == "grows":
            held.append(np.empty(2**30, np.uint8))  # never written to, so that the machine goes on
        if self._fault == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fault == "hangs":
            ctypes.PyDLL(None).pause()  # in C, with Python's lock
        return super().__call__(pixels) * np.float32("nan" if self._fault else 1)
