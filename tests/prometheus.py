"""A real Prometheus as a child process, with the project's rules."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

FOLDER = Path(__file__).parents[1] / "docker" / "prometheus"

MISSING = (
    None if shutil.which("prometheus") else "apt-get install prometheus brings what is missing"
)


class Prometheus:
    """What was scraped, to be asked."""

    def __init__(self, url: str) -> None:
        """Remembers where it is."""
        self.url = url

    def ask(self, query: str, path: str = "query", **parameters: object) -> list[dict]:
        """The series of an answer; values are text, as the API gives them."""
        asked = urlencode({"query": query, **parameters})
        with urlopen(f"{self.url}/api/v1/{path}?{asked}", timeout=10) as answer:
            return json.load(answer)["data"]["result"]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """Runs until the block ends, and scrapes each second.

    Args:
        folder: becomes its own.
        targets: address by job of prometheus.yml; jobs without one are left out, but its own.
    """
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    targets = {"prometheus": address, **targets}
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    kept = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    for job in kept:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump({**config, "scrape_configs": kept}))
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}",
               f"--storage.tsdb.path={folder / 'data'}",
               f"--web.listen-address={address}"]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urlopen(f"http://{address}/-/ready", timeout=1).close()
                break
            except (URLError, TimeoutError):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(timeout=30)
