"""Pictures for the page: small, with a text alternative, decoded in a process of their own."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from sightstream.images.decode import Frame, Preprocessing
from sightstream.images.frames import shown
from sightstream.images.limits import Limits
from sightstream.images.store import Store, here
from sightstream.scoring.child import Child, LostError
from web import page
from web.thumbnails import Painter, Picture

PICTURE_SECONDS = 20.0  # time that a picture may take

_NONE = (
    "data:image/svg+xml;base64,"
    + b64encode(
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64">'
        b'<rect x="1" y="1" width="62" height="62" rx="6" fill="#80808022" stroke="#80808088" '
        b'stroke-dasharray="4 3"/><path d="M22 22 42 42M42 22 22 42" stroke="#80808088" '
        b'stroke-width="3" stroke-linecap="round"/></svg>'
    ).decode()
)

_OWN = "backfill"
"""Source of rows whose uri the owner of the home has named."""

Row = Mapping[str, Any]


def show(picture: Picture | None, alt: str, side: int) -> None:
    """Draws a picture, or a placeholder, whose longest side has some CSS pixels.

    `alt`, the text alternative, is never read as markup.
    """
    if picture:
        uri = f"data:image/webp;base64,{b64encode(picture.webp).decode()}"
        st.image(uri, width=max(1, round(side * picture.width)), alt=alt)
    else:
        st.image(_NONE, width=min(side, 96), alt=f"no picture of {alt}")


def thumbnail(row: Row, side: int) -> Picture | None:
    """The picture of a row, scaled to a longest side in pixels; None if there is none.

    A row keeps the uri that a message named, also where it was refused: nothing is read that the
    stream may not read.
    """
    settings = page.settings()
    home = settings.root.as_uri()
    uri = here(row["uri"] or "", home)
    if not uri.startswith("file:"):  # such as a message of Kafka, which may exist no more
        return None
    own = row["source"] == _OWN and row["error_code"] != "uri_refused"
    prefixes = None if own else (*settings.kafka_uri_prefixes, f"{home}/images")
    path = Store(prefixes, settings.limits)(uri)
    return _thumbnail(path, side, shown(row["event_id"])) if isinstance(path, str) else None


@st.cache_data(max_entries=256, show_spinner=False)
def fit(image: bytes, side: int) -> Picture | None:
    """An uploaded picture, scaled to a longest side in pixels; None if it cannot be decoded."""
    return _painted("fit", image, side)


@st.cache_data(max_entries=64, show_spinner=False)
def overlay(
    image: bytes, side: int, heat: NDArray[np.float32], seen: Preprocessing
) -> Picture | None:
    """What the model saw of a picture, scaled to a longest side, with what decided lit up.

    `heat` is the map of `Classifier.occlusion`, `seen` the model's preprocessing.
    """
    return _painted("overlay", image, side, heat, seen)


@st.cache_data(max_entries=1000, ttl=600, show_spinner=False)
def _thumbnail(path: str, side: int, frame: Frame | int) -> Picture | None:
    return _painted("fit", path, side, frame)


def _painted(method: str, *arguments: object) -> Picture | None:
    try:
        painter = _painter(page.settings().limits)
        return painter.ask(method, *arguments, seconds=PICTURE_SECONDS)  # type: ignore[no-any-return]
    except (LostError, RuntimeError):
        return None


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda child: child.end())
def _painter(limits: Limits) -> Child:
    return Child(Painter, limits)
