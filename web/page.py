"""Shared by the pages: settings, registry, engines, hints, and texts from outside."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from sightstream import config
from sightstream.config import Settings
from sightstream.errors import RegistryUnavailableError, SightstreamError
from sightstream.images.limits import Limits
from sightstream.io import address
from sightstream.models.registry import Registry, Version
from sightstream.models.version import Card
from sightstream.terminal import printable
from web import imports
from web.engine import Engine

HASHES: dict[str | type[Any], Callable[[Any], Any]] = {
    Registry: lambda registry: registry.uri,
    Version: lambda version: (version.name, version.number, version.digest),
}
"""Streamlit's `hash_funcs` for results that are cached by registry and version."""

_KEPT_ENGINES = 3  # engines that run at once; each is a process

_STYLE = """<style>
.stMainBlockContainer { padding-top: 4.5rem; }
.stTable td * { overflow-wrap: anywhere !important; }
</style>"""


@contextmanager
def page(title: str) -> Iterator[None]:
    """Draws a page's heading; shows errors of the block as sentences."""
    st.html(_STYLE)
    st.header(title, anchor=False)
    with errors_shown():
        yield


@contextmanager
def errors_shown() -> Iterator[None]:
    """Shows an error that a user can mend as a sentence on the page."""
    try:
        yield
    except RegistryUnavailableError as error:
        st.error(plain(str(error)), icon=":material/cloud_off:")
        st.text("No model is available until the registry answers. Check registry_uri, then")
        st.button("Try again", icon=":material/refresh:")
    except SightstreamError as error:
        st.error(plain(str(error)), icon=":material/error:")


def settings() -> Settings:
    """The current settings."""
    return config.load()


def registry() -> Registry:
    """The configured registry."""
    return _registry(settings().registry_address)


def model() -> str | None:
    """Lets the user choose a registered model; shows a hint if there is none."""
    names = _names(registry())
    if not names:
        missing("There is no model yet. Train one:", "sightstream train starter")
        return None
    return choice(names)


def choice(names: list[str]) -> str:
    """Lets the user choose a model; the configured one is preselected."""
    first = settings().model
    index = names.index(first) if first in names else 0
    chosen = st.selectbox("Model", names, index, key="model", bind="query-params", width=280)
    return chosen or names[0]


@st.cache_data(ttl=2, max_entries=64, show_spinner=False, hash_funcs=HASHES)
def versions(registry: Registry, name: str) -> list[Version]:
    """A model's versions, the newest first; looked up again after two seconds."""
    return registry.versions(name)


def champion(name: str) -> Version | None:
    """The champion; shows a hint and returns None if there is none."""
    found = champion_of(versions(registry(), name))
    if found is None:
        missing(
            f"No version of {name} is the champion yet. Promote one:",
            f"sightstream models promote {name} 1",
        )
    return found


def champion_of(versions: list[Version]) -> Version | None:
    """The champion among versions."""
    return next((each for each in versions if "champion" in each.aliases), None)


def engine(version: Version) -> Engine:
    """The engine of a version; the last few are kept."""
    now = settings()
    return _engine(registry(), version, now.engine, now.device, now.limits, now.top_k)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=HASHES)
def card(registry: Registry, version: Version) -> Card:
    """The card of a version."""
    return registry.card(version)


def may_promote() -> bool:
    """Returns whether this page may promote and roll back versions."""
    now = settings()
    # What a proxy sends comes by loopback too.
    alone = address.is_loopback(now.web_host) and not now.web_hosts
    return now.web_promote == "always" or (now.web_promote == "loopback" and alone)


def missing(sentence: str, command: str) -> None:
    """Shows what is missing, and the command that makes it."""
    with st.container():
        st.info(plain(sentence), icon=":material/lightbulb:")
        st.code(command, language="sh")


def facts(known: Mapping[str, object]) -> None:
    """Draws a table of names and values, which are not cut."""
    # Times have no markup, and stay free of the joiners that `plain` puts beside colons.
    shown = {k: str(v) if isinstance(v, date) else plain(str(v)) for k, v in known.items()}
    st.table({plain(key): value for key, value in shown.items()}, border="horizontal")


def plain(text: str) -> str:
    """Escapes a text from outside for places where Streamlit reads Markdown."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable(text))
    # Shortcodes such as :smile: and addresses are looked for after the escapes are gone.
    return re.sub(
        r"(?i)(https?\\:|\\:(?=\\?[\w+-])|www(?=\\\.)|\\@)", "\\1\N{WORD JOINER}", escaped
    )


def when(time: datetime | None) -> str:
    """Formats a time in the browser's time zone, without the date if that is today."""
    if time is None:
        return ""
    local, now = time.astimezone(zone()), datetime.now(zone())
    return f"{local:%H:%M:%S}" if local.date() == now.date() else f"{local:%d %b %Y %H:%M:%S}"


def zone() -> tzinfo:
    """The browser's time zone; UTC if it is unknown."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (KeyError, ValueError, OSError):
        return UTC


@st.cache_resource(max_entries=4, show_spinner=False)
def _registry(address: str) -> Registry:
    imports.import_mlflow()
    return Registry(address)


@st.cache_data(ttl=10, max_entries=4, show_spinner=False, hash_funcs=HASHES)
def _names(registry: Registry) -> list[str]:
    return sorted(registry.names())


@st.cache_resource(
    max_entries=_KEPT_ENGINES, show_spinner="Loading the model", hash_funcs=HASHES,
    on_release=lambda engine: engine.end(),
)  # fmt: skip
def _engine(
    registry: Registry, version: Version, engine: str, device: str, limits: Limits, top_k: int
) -> Engine:
    return Engine(registry, version, engine, device, limits, top_k)
