"""Boxes of ISO base media files, ISO/IEC 14496-12: what HEIC, AVIF and JPEG XL are kept in."""

from collections.abc import Iterator


def top_level(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each outermost box, and where its content begins and ends.

    The end lies behind that of the data where a file was cut short.
    """
    start = 0
    while start + 8 <= len(data):
        size, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        begin = start + 8
        if size == 1:
            size, begin = int.from_bytes(data[start + 8 : start + 16], "big"), start + 16
        end = start + size if size else len(data)
        if end < begin:
            return
        yield kind, begin, end
        start = end


def are_cut_short(data: bytes) -> bool:
    """True where a box should end behind the end of the data."""
    return any(end > len(data) for _, _, end in top_level(data)) or len(data) < 16
