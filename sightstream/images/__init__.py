"""Images: their bytes, where these are, and what a decoder makes of them."""

import warnings


def mute_pillow() -> None:
    """Hide Pillow's warnings of odd metadata, in a process that is ours: they are no news there.

    Decoding needs this nowhere; a library's user may have other filters, and gets the same pixels.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
