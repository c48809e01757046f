"""An engine in ONNX Runtime's place, for versions of which some have a fault of their own."""

import ctypes
import os
import resource
import signal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightstream.models.engines import Onnx

MARK = b"chaos:"
"""Begins, behind the content of a model's file, the name of its fault."""

FAULTS = ("answers nothing", "dies", "grows", "hangs")
"""What a version may do instead of answering: NaN, a signal, memory without end, nothing."""

TRIED = "CHAOS_TRIED"
"""Environment variable: a file that gets a line for each time that a fault begins."""

UNBOUND = "has no limit of memory"
"""Ends the line where the process that is to be ended by its limit has none."""

MOST = 6 * 2**30
"""Bytes that a version which grows gets at most, whatever the limit of its process is."""


class Faulty(Onnx):
    """ONNX Runtime for all versions that have no fault."""

    def __init__(self, content: bytes, device: str = "auto") -> None:
        content, _, fault = content.partition(MARK)
        self._fault = fault.decode()
        super().__init__(content, device)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine` describes, or the fault."""
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        bound = soft != resource.RLIM_INFINITY
        if self._fault and (tried := os.environ.get(TRIED)):
            with Path(tried).open("a") as file:
                file.write(f"{self._fault}{'' if bound else f' {UNBOUND}'}\n")
        held = []
        if self._fault == "grows":
            least = min(soft, MOST) if bound else MOST
            resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
        while self._fault == "grows":
            held.append(np.ones(2**26, np.uint8))  # written to: it takes the machine's memory
        if self._fault == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fault == "hangs":
            ctypes.PyDLL(None).pause()  # in C, with Python's lock
        return super().__call__(pixels) * np.float32("nan" if self._fault else 1)
