"""Bounds of the images that are read, and the reasons for which one is rejected."""

from dataclasses import dataclass
from typing import Literal

ErrorCode = Literal[
    "empty", "too_large", "too_many_pixels", "unsupported_format",
    "truncated", "corrupt", "not_found", "unreadable", "uri_refused",
]  # fmt: skip

MAX_PIXELS = 2**28
INT32 = 2**31 - 1


@dataclass(frozen=True)
class Rejected:
    """Reason why an image was not decoded, and the format and size in its header, if known."""

    code: ErrorCode
    detail: str
    format: str | None = None
    width: int | None = None
    height: int | None = None


class RefusedError(Exception):
    """Raised while a picture is opened or decoded, with the code of its rejection."""

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code: ErrorCode = code


@dataclass(frozen=True)
class Limits:
    """Bounds that are checked before an image is read (`max_bytes`) or decoded (`max_pixels`).

    `seconds` is the time that an image may take once it is read, where its process may be ended:
    in the stream and in a backfill.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 120_000_000
    seconds: float = 30.0

    def __post_init__(self) -> None:
        require_integer("max_bytes", self.max_bytes, INT32)
        require_integer("max_pixels", self.max_pixels, MAX_PIXELS)

    def rejection(self, size: int) -> Rejected | None:
        """Reject a file of `size` bytes; None where it is within bounds."""
        if size == 0:
            return Rejected("empty", "The file has no bytes.")
        if size > self.max_bytes:
            return Rejected("too_large", f"{size:,} bytes; the limit is {self.max_bytes:,}.")
        return None


def require_integer(field: str, value: object, most: int) -> None:
    """Raise ValueError unless a field's value is an integer from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{field} must be an integer from 1 to {most:,}, not {value!r}")


DEFAULT_LIMITS = Limits()
