"""Who looks at a stream from outside: a reader of the table, an open page, and Prometheus."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

from tests.page import LIVE
from tests.page import opened as page_opened
from tests.prometheus import MISSING, prometheus

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@contextmanager
def reader(table: str, out: Path) -> Iterator[None]:
    """Counts the table's rows until the block ends; see `tests.soak.reader`."""
    command = [sys.executable, "-m", "tests.soak.reader", table, str(out)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def faults_of_reader(out: Path) -> Iterator[str]:
    """What a reader must not see: an error, or fewer rows than before."""
    rows = 0
    for line in map(json.loads, out.read_text().splitlines()):
        if "error" in line:
            yield f"reader: {line['error']}"
        elif line["rows"] < rows:
            yield f"reader: {line['rows']} rows after {rows}"
        rows = max(rows, line.get("rows", 0))


@contextmanager
def window(url: str) -> Iterator[str]:
    """An open page until the block ends; yields what shows it."""
    opened, end, failed = Event(), Event(), list[Exception]()

    def show() -> None:
        try:
            (_browser if CHROMIUM else _socket)(url, opened, end)
        except Exception as error:
            failed.append(error)
            opened.set()

    thread = Thread(target=show, name="window", daemon=True)
    thread.start()
    opened.wait(120)
    try:
        yield "Chromium" if CHROMIUM else "a WebSocket"
    finally:
        end.set()
        thread.join(60)
    if failed:
        raise failed[0]


def _browser(url: str, opened: Event, end: Event) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{url}/{LIVE}")
        page.get_by_text("Refresh by itself").wait_for(timeout=60_000)
        opened.set()
        while not end.is_set():
            page.wait_for_timeout(500)
        shown = page.get_by_text("Refresh by itself").count()
        browser.close()
    if not shown:
        raise RuntimeError("the page does not show the stream any more")


def _socket(url: str, opened: Event, end: Event) -> None:
    with page_opened(url, LIVE) as said:
        opened.set()
        while not end.is_set():
            next(said)


@contextmanager
def scraped(folder: Path, address: str) -> Iterator[str]:
    """A real Prometheus that scrapes an address until the block ends; yields what does it."""
    with ExitStack() as stack:
        if not MISSING:
            stack.enter_context(prometheus(folder, {"sightstream": address}))
        yield MISSING or "Prometheus"
