"""Compare our pixels with those of OpenCV and of tifffile or imagecodecs, file by file.

    PICTURES=/folder[:/folder] python benchmarks/differential.py

Needs opencv-python-headless, tifffile, imagecodecs. A file agrees with a reader if the mean error
is at most 2 levels. Readers that refuse a file, or give another shape, are counted apart.
"""

import os
import warnings
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile

from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.formats import find
from sightstream.images.levels import Samples, to_8_bit

MOST = 2


def ours(data: bytes) -> Any:
    """Our pixels at the size of the picture."""
    first = decode(data, Preprocessing(1, 1))
    if not isinstance(first, Decoded) or max(first.width, first.height) > 2**14:
        return None
    return decode(data, Preprocessing(first.height, first.width)).pixels  # type: ignore[union-attr]


def colours(values: Any, *, reverse: bool) -> Any:
    """RGB of what a reader gives: flattened onto white, levels as ours."""
    values = np.atleast_3d(np.squeeze(values))
    alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
    values = values[..., :3] if values.shape[-1] > 2 else values[..., 0]
    if reverse and values.ndim == 3:
        values = values[..., ::-1]
    return np.asarray(
        to_8_bit(Samples(np.ascontiguousarray(values), alpha), "values").convert("RGB")
    )


def with_opencv(data: bytes) -> Any:
    """OpenCV: libjpeg, libpng, libwebp and libtiff of its own build."""
    flags = cv2.IMREAD_UNCHANGED if find(data).name in ("PNG", "TIFF") else cv2.IMREAD_COLOR
    return colours(cv2.imdecode(np.frombuffer(data, np.uint8), flags), reverse=True)


def with_codecs(data: bytes) -> Any:
    """Tifffile for TIFF, imagecodecs for the others."""
    if find(data).name == "TIFF":
        with tifffile.TiffFile(BytesIO(data)) as file:
            return colours(file.pages.first.asarray(), reverse=False)
    return colours(imagecodecs.imread(data), reverse=False)


def main() -> None:
    """Print each disagreement, and the counts."""
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    for folder in os.environ["PICTURES"].split(":"):
        for path in sorted(each for each in Path(folder).rglob("*") if each.is_file()):
            data = path.read_bytes()
            mine = ours(data) if data else None
            counts["files"] += 1
            if mine is None:
                counts["refused here"] += 1
                continue
            errors = []
            for reader in (with_opencv, with_codecs):
                try:
                    theirs = reader(data)
                    same = theirs.shape == mine.shape
                    errors.append(abs(theirs.astype(int) - mine).mean() if same else None)
                except Exception:  # whatever a reader says of a file that it cannot read
                    errors.append(None)
            known = [each for each in errors if each is not None]
            agreed = sum(each <= MOST for each in known)
            counts[f"compared with {len(known)}, agrees with {agreed}"] += 1
            if agreed < len(known):
                print(path.name, [each and round(float(each), 1) for each in errors])
    print(dict(counts))


if __name__ == "__main__":
    main()
