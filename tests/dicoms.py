"""DICOM files that tests write themselves."""

from io import BytesIO

import numpy as np

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, BIG = (f"1.2.840.10008.1.2{each}" for each in (".1", "", ".2"))
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"


def dataset(values, *, bits=0, frames=0, sop=CT, syntax=EXPLICIT, **elements):
    """A dataset around (height, width), (height, width, 3) or, with `frames`, more of them."""
    from pydicom.dataset import Dataset, FileMetaDataset

    made, values = Dataset(), np.asarray(values)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = sop
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = values.shape[bool(frames) :][:2]
    if frames:
        made.NumberOfFrames = frames
    colours = values.ndim - bool(frames) == 3
    made.SamplesPerPixel, made.PlanarConfiguration = (3, 0) if colours else (1, None)
    made.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    made.BitsAllocated = 8 * values.dtype.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in elements.items():
        setattr(made, name, value)
    order = ">" if syntax == BIG else "<"
    made.PixelData = values.astype(values.dtype.newbyteorder(order)).tobytes()
    made["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    if len(made.PixelData) % 2:
        made.PixelData += b"\0"
    return made


def saved(made, *, compressed=""):
    """The bytes of the file."""
    if compressed:
        made.compress(compressed)
    stream = BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def item(**elements):
    """An item of a sequence."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def stack(count):
    """Frames (count, 4, 6) of uint8: the k-th is black, but for k white pixels."""
    frames = [np.where(np.arange(24) < k, 255, 0).reshape(4, 6) for k in range(1, count + 1)]
    return np.stack(frames).astype(np.uint8)
