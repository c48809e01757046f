"""Images: their bytes, where these are, and what a decoder makes of them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_FILTERS = RLock()
"""Held while the process's filters for warnings are changed; other threads may decode."""


def mute_pillow() -> None:
    """Hide Pillow's warnings about odd metadata, in a process of ours; decoding is the same."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def without_warnings() -> Iterator[None]:
    """No warning is shown or raised until the block ends, whatever the process's filters say."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
