"""Pictures for the page: small, with a text alternative, decoded in a process of their own."""

from __future__ import annotations

from base64 import b64encode

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from sightstream.config import Settings
from sightstream.events import local_path
from sightstream.imaging import Aspect
from sightstream.isolation import Child, LostError
from web import home
from web.painter import Painter

SECONDS = 20.0
"""The time that a picture may take."""

_NONE = (
    "data:image/svg+xml;base64,"
    + b64encode(
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64">'
        b'<rect x="1" y="1" width="62" height="62" rx="6" fill="#80808022" stroke="#80808088" '
        b'stroke-dasharray="4 3"/><path d="M22 22 42 42M42 22 22 42" stroke="#80808088" '
        b'stroke-width="3" stroke-linecap="round"/></svg>'
    ).decode()
)


def show(source: str | None, alt: str, width: int) -> None:
    """Draws a picture.

    Args:
        source: a data URI; None where there is no picture to be had.
        alt: the text alternative; it is never read as markup.
        width: in CSS pixels.
    """
    st.image(source or _NONE, width=width, alt=alt if source else f"no picture of {alt}")


def thumbnail(uri: str | None, side: int) -> str | None:
    """The picture of a row as a data URI; None where it is gone, or was never one.

    Args:
        uri: where its bytes are.
        side: its longest side, in pixels.
    """
    try:
        path = local_path(uri or "")
    except ValueError:  # such as a message of Kafka, which may exist no more
        return None
    return _thumbnail(path, side)


@st.cache_data(max_entries=256, show_spinner=False)
def fit(image: bytes, side: int) -> str | None:
    """An uploaded picture as a data URI; None where it is none.

    Args:
        image: what the file holds.
        side: its longest side, in pixels.
    """
    return _painted("fit", image, side)


@st.cache_data(max_entries=64, show_spinner=False)
def overlay(image: bytes, side: int, heat: NDArray[np.float32], aspect: Aspect) -> str | None:
    """A picture with the pixels that counted lit up, as a data URI.

    Args:
        image: what the file holds.
        side: its longest side, in pixels.
        heat: what `Classifier.occlusion` says of it.
        aspect: how the model's input was cut from the picture.
    """
    return _painted("overlay", image, side, heat, aspect)


@st.cache_data(max_entries=4000, ttl=600, show_spinner=False)
def _thumbnail(path: str, side: int) -> str | None:
    return _painted("fit", path, side)


def _painted(method: str, *arguments: object) -> str | None:
    try:
        data: bytes | None = _painter(home.settings()).ask(method, *arguments, seconds=SECONDS)
    except (LostError, RuntimeError):
        return None
    return f"data:image/webp;base64,{b64encode(data).decode()}" if data else None


@st.cache_resource(
    max_entries=2, show_spinner=False, on_release=lambda child: child.end(),
    hash_funcs={Settings: lambda settings: settings.limits},
)  # fmt: skip
def _painter(settings: Settings) -> Child:
    return Child(Painter, settings.limits)
