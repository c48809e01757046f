"""Compares what is read of DICOM with DCMTK, and where that reads nothing, with a few formulas.

    python benchmarks/dicom_reference.py [FOLDER]

Needs DCMTK and the extras dicom and tiff. The files are pydicom's own, or those of a folder.
Prints a table, and each file without an explanation; ends with 1 if there is one.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from sightstream.images import formats
from sightstream.images.decode import Decoded, Preprocessing, decode

NO_PICTURES = {".py", ".pyc", ".txt", ".json", ".dump", ".icc", ".md"}
LEVEL = 1
DEEP_JPEG, JPEG_2000 = (
    "1.2.840.10008.1.2.4.51",
    ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
)


def main() -> int:
    """Count each content once."""
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1] if sys.argv[1:] else Path(pydicom.__file__).parent / "data")
    counts = Counter[str]()
    for path, data in _files(folder):
        outcome = _outcome(path, data)
        counts[outcome] += 1
        if outcome.startswith("unexplained"):
            print(path, outcome)
    print(f"{counts.total()} files")
    for outcome, count in sorted(counts.items()):
        print(f"| {outcome} | {count} |")
    return int(any(each.startswith("unexplained") for each in counts))


def _files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    seen = set()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in NO_PICTURES and path.name != "README":
            data = path.read_bytes()
            if (digest := hashlib.sha256(data).digest()) not in seen:
                seen.add(digest)
                yield path, data


def _outcome(path: Path, data: bytes) -> str:
    result = decode(data, Preprocessing(8, 8))
    other = _of_dcmtk(path)
    if not isinstance(result, Decoded):
        if other is None:
            kind = result.detail if "holds no picture" in result.detail else "cannot be read"
            return f"refused, by DCMTK too: {result.code}: {kind}"
        return f"unexplained refusal: {result.detail}"
    ours = _ours(data, result)
    if other is not None and _agree(ours, other):
        return "read, as DCMTK does"
    alone = "DCMTK reads nothing" if other is None else "DCMTK differs"
    if _agree(ours, _by_formulas(path)):
        return f"read, as the formulas say; {alone}"
    return f"unexplained: {alone}, and so do the formulas"


def _ours(data: bytes, result: Decoded) -> NDArray:
    """At its full size, so that nothing is resized."""
    colours = formats.DICOM.open(BytesIO(data))
    grey = str(colours.header.photometric).startswith("MONO")  # type: ignore[attr-defined]
    want = Preprocessing(result.height, result.width, 1 if grey else 3)
    whole = decode(data, want)
    assert isinstance(whole, Decoded)
    return whole.pixels[..., 0] if grey else whole.pixels


def _agree(ours: NDArray, other: NDArray | None) -> bool:
    if other is None:
        return False
    if other.ndim < ours.ndim:
        other = np.dstack([other] * 3)
    if ours.shape != other.shape:
        return False
    return bool(np.abs(ours.astype(int) - other.astype(int)).max() <= LEVEL)


def _of_dcmtk(path: Path) -> NDArray | None:
    """With the file's first VOI LUT or window, else from its least to its largest value."""
    tool = shutil.which("dcm2img") or shutil.which("dcmj2pnm")
    if tool is None:
        raise SystemExit("dcm2img or dcmj2pnm is needed: install DCMTK")
    header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    view = ["+Wm"]
    if "WindowWidth" in header:
        view = ["+Wi", "1"]
    if "VOILUTSequence" in header:
        view = ["+Wl", "1"]
    if not str(header.get("PhotometricInterpretation")).startswith("MONO"):
        view = []
    with tempfile.TemporaryDirectory() as folder:
        plain, picture = Path(folder) / "plain.dcm", Path(folder) / "picture.png"
        jpeg_ls = subprocess.run(["dcmdjpls", path, plain], capture_output=True, check=False)
        source = plain if jpeg_ls.returncode == 0 else path
        command = [tool, "+on", "-O", *view, source, picture]
        subprocess.run(command, capture_output=True, check=False)
        return np.asarray(Image.open(picture)) if picture.exists() else None


def _by_formulas(path: Path) -> NDArray | None:
    """The first frame by other decoders, and then PS3.3 C.11 in plain numpy."""
    try:
        made = pydicom.dcmread(path, force=True)
        stored, colours = _stored(made)
    except Exception:
        return None
    if not colours.startswith("MONO"):
        return stored if stored.dtype == np.uint8 else None
    values = stored * float(made.get("RescaleSlope", 1)) + float(made.get("RescaleIntercept", 0))
    if made.get("WindowWidth") is None:
        padding = made.get("PixelPaddingValue")
        counts = values[stored != padding] if padding is not None else values
        low, high = float(counts.min()), float(counts.max())
    else:
        center, width = (np.atleast_1d(made[f"Window{each}"].value)[0]
                         for each in ("Center", "Width"))  # fmt: skip
        low = float(center) - 0.5 - (float(width) - 1) / 2
        high = low + float(width) - 1
    shown = ((values - low) / max(high - low, 1e-9)).clip(0, 1)
    if colours == "MONOCHROME1":
        shown = 1 - shown
    return np.floor(shown * 255 + 0.5)


def _stored(made: Any) -> tuple[NDArray, str]:
    syntax, plugin = made.file_meta.get("TransferSyntaxUID", ""), ""
    if str(syntax) == DEEP_JPEG:
        content = get_frame(made.PixelData, 0, number_of_frames=1)
        return imagecodecs.jpeg_decode(content), str(made.PhotometricInterpretation)
    if str(syntax) in JPEG_2000:
        content, plugin = get_frame(made.PixelData, 0, number_of_frames=1), "pillow"
        if made.PhotometricInterpretation == "YBR_RCT":
            return imagecodecs.jpeg2k_decode(content), "RGB"
    array, seen = get_decoder(syntax).as_array(made, index=0, decoding_plugin=plugin)
    return array, str(seen["photometric_interpretation"])


if __name__ == "__main__":
    sys.exit(main())
