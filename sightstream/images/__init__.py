"""Images: their bytes, where these are, and what a decoder makes of them."""

import warnings


def mute_pillow() -> None:
    """Hide Pillow's warnings about odd metadata, in a process of ours; decoding is the same."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
