"""The page that classifies images from uploads and from the camera."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import streamlit as st

from sightstream.scoring.classifier import Answer
from sightstream.terminal import shortened
from web import page, pictures
from web.page import plain

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from sightstream.models.registry import Version
    from web.engine import Engine

SIDE = 320  # pixels of a picture's longest side
CARDS = 12  # answers that are drawn at once


@dataclass(frozen=True)
class Classified:
    """An answer, and the seconds that the page waited for it."""

    answer: Answer
    seconds: float


def draw() -> None:
    """Draws the page."""
    with page.page("Classify"):
        name = page.model()
        version = name and page.champion(name)
        if version:
            _body(version)


def _body(version: Version) -> None:
    engine = page.engine(version)
    height, width, channels = engine.model.preprocessing.shape
    kind = "grey" if channels == 1 else "RGB"
    st.caption(
        f"**{plain(version.name)} version {version.number}**, the champion, "
        f"distinguishes {len(engine.model.labels)} labels in {width}×{height} {kind} pixels."
    )
    files = _files()
    explain = st.toggle(
        "Show which pixels decided",
        help="Hides one patch after the other and measures how far the best label's score falls.",
    )
    if not files:
        st.info(
            "Drop images above, or take one with the camera. They are classified here and now, "
            "kept in memory only, and become no rows.",
            icon=":material/lightbulb:",
        )
        return
    done = _classified(files, version, engine)
    rejected = sum(each.answer.error_code is not None for each in done)
    if len(files) > 1:
        st.markdown(f"**{len(files) - rejected}** classified, **{rejected}** rejected")
    shown = CARDS * st.session_state.get("pages", 1)
    for file, each in list(zip(files, done, strict=True))[:shown]:
        _card(file, each, engine, version, explain=explain)
    if len(files) > shown:
        more = f"Show {min(CARDS, len(files) - shown)} more of {len(files) - shown}"
        if st.button(more, icon=":material/expand_more:"):
            st.session_state["pages"] = shown // CARDS + 1
            st.rerun()


def _files() -> list[UploadedFile]:
    upload, camera = st.tabs([":material/upload: Upload", ":material/photo_camera: Camera"])
    with upload:
        files = st.file_uploader(
            "Images",
            accept_multiple_files=True,
            help="JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC, JPEG XL or DICOM, recognised by "
            "content, not by name.",
        )
    with camera:
        # The browser asks for the camera as soon as the widget is there.
        photo = (
            st.camera_input("Photograph")
            if st.toggle("Use the camera", help="The browser asks you for permission.")
            else None
        )
    return [*([photo] if photo else []), *files]


def _classified(files: list[UploadedFile], version: Version, engine: Engine) -> list[Classified]:
    """Classifies files; answers are kept in the session."""
    known: dict[tuple[str, str], Classified] = st.session_state.setdefault("answers", {})
    keys = [(file.file_id, version.digest) for file in files]
    for gone in known.keys() - set(keys):
        del known[gone]
    waiting = [(key, file) for key, file in zip(keys, files, strict=True) if key not in known]
    bar = st.progress(0.0, "Classifying") if len(waiting) > 1 else None
    for number, (key, file) in enumerate(waiting, 1):
        begin = perf_counter()
        answer = engine.classify(file.getvalue())
        known[key] = Classified(answer, perf_counter() - begin)
        if bar:
            bar.progress(number / len(waiting), f"Classifying {number} of {len(waiting)}")
    if bar:
        bar.empty()
    return [known[key] for key in keys]


def _card(
    file: UploadedFile, each: Classified, engine: Engine, version: Version, *, explain: bool
) -> None:
    answer, image = each.answer, file.getvalue()
    with st.container(border=True, horizontal=True, gap="medium"):
        picture, verdict = st.container(width=SIDE + 20), st.container(width="stretch")
    if answer.classes and answer.scores:
        with picture:
            _picture(file.name, image, answer.classes[0], engine, version, explain=explain)
        with verdict:
            _verdict(file.name, each, engine, version)
    else:
        with picture:
            pictures.show(pictures.fit(image, SIDE), file.name, 96)
        with verdict:
            st.text(shortened(file.name))
            code = f"**{plain(str(answer.error_code))}**"
            st.warning(f"{code}: {plain(answer.error_detail or '')}", icon=":material/block:")


def _picture(
    name: str, image: bytes, best: int, engine: Engine, version: Version, *, explain: bool
) -> None:
    label, heat = engine.model.labels[best], None
    if explain:
        with st.spinner("Hiding patch after patch"):
            heat = _occlusion(engine, version.digest, image, best)
    if heat is None:
        pictures.show(pictures.fit(image, SIDE), f"{name}, said to be {label}", SIDE)
        if explain:
            st.caption("There is no map: the model did not answer for its patches.")
        return
    drop = float(heat.max())
    drawn = pictures.overlay(image, SIDE, heat, engine.model.preprocessing)
    pictures.show(drawn, f"{name}: the pixels that decided for {label}, in colour", SIDE)
    if drop < 0.01:
        st.caption("No single patch decides: hiding any of them changes the score by under 1 %.")
    else:
        st.caption(
            "Bright: hiding it makes the best label's score fall, by up to "
            f"{100 * drop:.0f} points. Grey: it does not matter, or speaks for another label."
        )


@st.cache_data(max_entries=64, show_spinner=False)
def _occlusion(_engine: Engine, digest: str, image: bytes, label: int):  # type: ignore[no-untyped-def]
    return _engine.occlusion(image, label)


def _verdict(name: str, each: Classified, engine: Engine, version: Version) -> None:
    answer = each.answer
    st.text(shortened(name))
    best = list(zip(answer.classes or (), answer.scores or (), strict=True))
    st.subheader(plain(engine.model.labels[best[0][0]]), anchor=False)
    for label, score in best:
        st.progress(min(1.0, max(0.0, score)), f"{plain(engine.model.labels[label])} · {score:.2%}")
    st.caption(
        f"{plain(version.name)} version {version.number} on {engine.model.engine} · answered in "
        f"{1000 * each.seconds:.0f} ms: decoding {answer.decode_ms or 0:.1f}, model "
        f"{answer.predict_ms or 0:.1f} · {answer.format} {answer.width}×{answer.height}, "
        f"{_size(answer.bytes or 0)}"
    )


def _size(number: int) -> str:
    return f"{number / 2**20:.1f} MiB" if number >= 2**20 else f"{number / 1024:.1f} KiB"


if __name__ == "__main__":
    draw()
