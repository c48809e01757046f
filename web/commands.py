"""The command of the page: `sightstream web`."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightstream import terminal
from sightstream.cli import extras, options
from sightstream.errors import EnvironmentUnfitError
from sightstream.io.address import free_port

if TYPE_CHECKING:
    from sightstream.config import Settings

_MIB = 2**20

_M_ARENA_MAX = -8  # of glibc's malloc.h
STREAMLIT = {
    "server.headless": True,
    "server.showEmailPrompt": False,
    "server.fileWatcherType": "none",
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "server.enableStaticServing": False,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "runner.magicEnabled": False,
    # Garbage collection after each run scans everything that was imported: 0.2 s.
    "runner.postScriptGC": False,
    "theme.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#2680C0",
}
"""Options of Streamlit, without those that follow from the settings."""


def register(app: typer.Typer) -> None:
    """Adds the commands of this package to the command line."""
    app.command()(web)


def web(
    host: Annotated[str | None, typer.Option(help="Address of the page [127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the page, 0 for any free one [8501].")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Registered model that is shown first [starter].")
    ] = None,
    home: options.Home = None,
) -> None:
    """Serve the web page: classify, watch, compare and label.

    It has no users and no passwords: whoever reaches its address may classify, look and label.
    Models can be promoted on loopback only, unless the setting web_promote allows more.

    Example: sightstream web --port 8080
    """
    from sightstream.config import ENV_PREFIX

    extras.require("streamlit", "duckdb")
    settings = options.settings(home, web_host=host, web_port=port, model=model)
    terminal.log_to(settings.logs / "web.log")
    _share_memory()
    number = _port(settings)
    # The page's script reads the settings anew; flags may have changed these.
    changed = {"HOME": str(settings.root), "WEB_HOST": settings.web_host, "MODEL": settings.model}
    os.environ.update({f"{ENV_PREFIX}{name}": value for name, value in changed.items()})
    place = f"[{settings.web_host}]" if ":" in settings.web_host else settings.web_host
    terminal.err.print(f"the page is at http://{place}:{number}", highlight=False)
    terminal.err.print("Ctrl-C ends", style="dim")
    with terminal.chatter_to(settings.logs / "libraries.log"):
        _serve(settings, number)


def _share_memory() -> None:
    """Have threads share their heaps: each look at the table has new ones, and leaves theirs."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # read when Arrow is loaded
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)  # which other C libraries do not have
    if allocator:
        allocator(_M_ARENA_MAX, 2)


def _port(settings: Settings) -> int:
    host, port = settings.web_host, settings.web_port
    try:
        return free_port(host, port)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the page cannot listen on {host}:{port}: {error.strerror}; "
            "give another --port or --host"
        ) from None


def _serve(settings: Settings, port: int) -> None:
    from threading import Thread

    from streamlit.web import cli

    from web import imports

    # MLflow's import takes seconds; the first visitor should not wait for it.
    Thread(target=imports.import_mlflow, daemon=True).start()
    chosen = {
        **STREAMLIT,
        "server.address": settings.web_host,
        "server.port": port,
        "server.maxUploadSize": -(-settings.max_image_bytes // _MIB),
    }
    flags = [f"--{key}={value}" for key, value in chosen.items()]
    script = Path(__file__).with_name("server.py")
    # The server sends itself the signal that ended it once more.
    terminal.stop_on_signals()
    cli.main(["run", str(script), *flags], prog_name="sightstream web", standalone_mode=False)
