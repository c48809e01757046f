"""Shared by the pages: settings, registry, engines, and the hints where one is missing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, tzinfo
from zoneinfo import ZoneInfo

import streamlit as st

from sightstream import config
from sightstream.config import Settings
from sightstream.errors import RegistryUnavailableError, SightstreamError
from sightstream.models.registry import Registry, Version
from sightstream.models.version import Card, read_card
from sightstream.terminal import printable
from web import imports
from web.engine import Engine

_KEPT = 3
"""Engines that run at once; each is a process."""


_STYLE = """<style>
.stMainBlockContainer { padding-top: 4.5rem; }
.stTable td * { overflow-wrap: anywhere !important; }
</style>"""


@contextmanager
def page(title: str) -> Iterator[None]:
    """A page with its heading."""
    st.html(_STYLE)
    st.header(title, anchor=False)
    with errors_told():
        yield


@contextmanager
def errors_told() -> Iterator[None]:
    """An error that a user can mend becomes a sentence on the page."""
    try:
        yield
    except RegistryUnavailableError as error:
        st.error(plain(str(error)), icon=":material/cloud_off:")
        st.text("The models are not to be had until the registry answers. Check registry_uri, then")
        st.button("Try again", icon=":material/refresh:")
    except SightstreamError as error:
        st.error(plain(str(error)), icon=":material/error:")


def settings() -> Settings:
    """The settings as they are now."""
    return config.load()


def registry() -> Registry:
    """The registry of the settings."""
    now = settings()
    return _registry(now, now.registry_uri or str(now.registry))


def model() -> str | None:
    """Lets the user choose a registered model; shows a hint where there is none."""
    names = _names(registry())
    if not names:
        missing("There is no model yet. Train one:", "sightstream train starter")
        return None
    return choice(names)


def choice(names: list[str]) -> str:
    """Lets the user choose one of some models; that of the settings is the first choice."""
    first = settings().model
    index = names.index(first) if first in names else 0
    chosen = st.selectbox("Model", names, index, key="model", bind="query-params", width=280)
    return chosen or names[0]


def versions(name: str) -> list[Version]:
    """A model's versions, the newest first; looked up again after two seconds."""
    return _versions(registry(), registry().uri, name)


def champion(name: str) -> Version | None:
    """The version in use; shows a hint and returns None where there is none."""
    found = next((v for v in versions(name) if "champion" in v.aliases), None)
    if found is None:
        missing(
            f"No version of {name} is the champion yet. Promote one:",
            f"sightstream models promote {name} 1",
        )
    return found


def engine(version: Version) -> Engine:
    """The engine of a version; the last few are kept."""
    now = settings()
    return _engine(registry(), version, now, f"{registry().uri} {now.engine} {now.limits}")


@st.cache_data(max_entries=64, show_spinner=False)
def card(_registry: Registry, uri: str, _version: Version, digest: str) -> Card:
    """The card of a version."""
    return read_card(_registry.fetch(_version), digest)


def may_promote() -> bool:
    """Whether this page may move aliases."""
    now = settings()
    return now.web_promote == "always" or (now.web_promote == "loopback" and _loopback(now))


def missing(sentence: str, command: str) -> None:
    """Shows what is missing, and the command that makes it."""
    with st.container():
        st.info(plain(sentence), icon=":material/lightbulb:")
        st.code(command, language="sh")


def facts(known: Mapping[str, object]) -> None:
    """Draws a table of names and values, each value whole."""
    # Times have no markup, and are to be copied without what `plain` puts beside a colon.
    shown = {k: str(v) if isinstance(v, date) else plain(str(v)) for k, v in known.items()}
    st.table({plain(key): value for key, value in shown.items()}, border="horizontal")


def plain(text: str) -> str:
    """A text from outside, shown as it is in a place where Streamlit reads Markdown."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable(text))
    # Shortcodes such as :smile: and addresses are looked for after the escapes are gone.
    return re.sub(
        r"(?i)(https?\\:|\\:(?=\\?[\w+-])|www(?=\\\.)|\\@)", "\\1\N{WORD JOINER}", escaped
    )


def when(time: datetime | None) -> str:
    """A time as the browser's owner reads it."""
    if time is None:
        return ""
    local, now = time.astimezone(zone()), datetime.now(zone())
    return f"{local:%H:%M:%S}" if local.date() == now.date() else f"{local:%d %b %Y %H:%M:%S}"


def zone() -> tzinfo:
    """The browser's time zone; UTC where it is not known."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (KeyError, ValueError, OSError):
        return UTC


@st.cache_resource(max_entries=4, show_spinner=False)
def _registry(_settings: Settings, where: str) -> Registry:
    imports.import_mlflow()
    return Registry(_settings.registry_address)


def _names(registry: Registry) -> list[str]:
    return _known_names(registry, registry.uri) if registry.exists else []


@st.cache_data(ttl=10, max_entries=4, show_spinner=False)
def _known_names(_registry: Registry, uri: str) -> list[str]:
    return sorted(_registry.names())


@st.cache_data(ttl=2, max_entries=64, show_spinner=False)
def _versions(_registry: Registry, uri: str, name: str) -> list[Version]:
    return _registry.versions(name)


@st.cache_resource(
    max_entries=_KEPT, show_spinner="Loading the model", on_release=lambda engine: engine.end(),
    hash_funcs={Version: lambda v: (v.name, v.number, v.digest)},
)  # fmt: skip
def _engine(_registry: Registry, version: Version, _settings: Settings, key: str) -> Engine:
    now = _settings
    return Engine(_registry.fetch(version), version, now.engine, now.limits, now.top_k)


def _loopback(settings: Settings) -> bool:
    if settings.web_host == "localhost":
        return True
    try:
        return ipaddress.ip_address(settings.web_host).is_loopback
    except ValueError:
        return False
