"""AVIF, by Pillow's own decoder: the primary picture, or the first frame of a sequence."""

from io import BytesIO

from PIL import Image

from sightstream.images import avif_header
from sightstream.images.limits import RefusedError


def open_picture(stream: BytesIO) -> Image.Image:
    """Open with the container's rotation in place of that of EXIF, as Pillow has it."""
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        sentence = "This Pillow was built without AVIF: install the one that pip brings."
        raise RefusedError("unsupported_format", sentence)
    for claimed, coded in avif_header.sizes(stream.getvalue()):
        if claimed != coded:
            sizes = "its pixels are {}x{}, and its header says {}x{}".format(*coded, *claimed)
            raise RefusedError("corrupt", f"The AVIF cannot be decoded: {sizes}.")
    try:
        return AvifImagePlugin.AvifImageFile(stream)
    except Exception as error:
        if "Not implemented" in str(error):
            sentence = "An AVIF of this kind cannot be read: convert it to JPEG or PNG."
            raise RefusedError("unsupported_format", sentence) from None
        if "Exif" not in str(error):
            raise
    # A broken EXIF block is no reason to refuse an intact picture, and it turns nothing here.
    return AvifImagePlugin.AvifImageFile(BytesIO(stream.getvalue().replace(b"Exif", b"none")))
