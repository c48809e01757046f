"""Files of separated columns, as spreadsheets of any language write them."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

SEPARATORS = ",;\t"


class Separated(NamedTuple):
    """An open file at its first row, the number of lines before it, and what separates columns."""

    file: TextIO
    before: int
    delimiter: str


@contextmanager
def opened(
    path: Path, fits: Callable[[list[str]], bool], errors: str = "strict"
) -> Iterator[Separated]:
    """Open a file; what separates its columns is that by which its first row `fits`, or a comma.

    UTF-8, or UTF-16 as spreadsheets mark it. OSError or UnicodeError where it cannot be read.
    """
    with path.open(newline="", encoding=_encoding(path), errors=errors) as file:
        start, head = 0, file.readline()
        if is_told := head.startswith("sep="):  # by which spreadsheets tell it
            told, start = head[4:5], file.tell()
            if told and told in f"{SEPARATORS}|":
                yield Separated(file, 1, told)
                return
            head = file.readline()
        file.seek(start)
        found = (each for each in SEPARATORS if fits(next(csv.reader([head], delimiter=each), [])))
        yield Separated(file, int(is_told), next(found, ","))


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        marked = file.read(2) in {b"\xff\xfe", b"\xfe\xff"}
    return "utf-16" if marked else "utf-8-sig"
