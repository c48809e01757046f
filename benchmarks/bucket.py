"""The cost of looks at a bucket of many objects: requests, seconds and memory.

A server of this file answers listings of generated keys, as S3 does, in a process of its own:
python -m benchmarks.bucket [OBJECTS...]
"""

from __future__ import annotations

import argparse
import os
import random
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import psutil

from streaming.bucket.intake import Intake, Pace
from streaming.bucket.store import place

T = TypeVar("T")

NEW = 1000  # objects that come during an hour, under random names


def main() -> None:
    """Measure buckets of as many objects as the command names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objects", type=int, nargs="*", default=[10**3, 10**4, 10**5, 10**6])
    head = (
        "objects", "first listing, s", "full listing, s", "its requests", "look, requests",
        "look, ms", "requests a new object", "memory, MB", "disk, MB",
    )  # fmt: skip
    print("|", " | ".join(head), "|")
    print("|", " | ".join("---:" for _ in head), "|", flush=True)
    for count in parser.parse_args().objects:
        print("|", " | ".join(map(str, measured(count))), "|", flush=True)


def measured(count: int) -> tuple[object, ...]:
    """Return the cells of a row, measured in a fresh process."""
    ours, theirs = Pipe()
    child = Process(target=lambda: theirs.send(looks(count)))
    child.start()
    try:
        found: tuple[object, ...] = ours.recv()
        return found
    finally:
        child.join()


def looks(count: int) -> tuple[object, ...]:
    """Return the cells of a row."""
    ours, theirs = Pipe()
    server = Process(target=serve, args=(count, theirs), daemon=True)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": ours.recv(), "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }  # fmt: skip

    def ask(what: str) -> int:
        ours.send(what)
        return int(ours.recv())

    with TemporaryDirectory() as folder:
        intake = Intake(place("s3://photos/in/"), Path(folder), Pace(5, 300))
        list(intake._place.bucket.pages("in/", "in/zzz"))  # imports the client
        process = psutil.Process()
        before = process.memory_info().rss
        first, taken = timed(intake.drain)
        assert taken == count
        ask("requests")
        full, taken = timed(intake.drain)
        assert taken == 0
        requests = ask("requests")
        intake._due, rounds = float("inf"), 10
        look, _ = timed(lambda: [intake.take() for _ in range(rounds)])
        quick = ask("requests") / rounds
        ask("add")
        assert intake.drain() >= NEW - 1
        size = sum(each.stat().st_size for each in Path(folder).glob("taken-*"))
        memory = (process.memory_info().rss - before) / 1e6
        looked = 3600 / 5 * quick if requests > 1 else 0
        # The settings' defaults; a listing that takes long comes less often.
        interval = max(min(300, (requests - 1) * 5), 5 if requests == 1 else 10 * full)
        hourly = looked + 3600 / interval * requests
        server.kill()
        return (
            f"{count:,}", f"{first:.2f}", f"{full:.2f}", requests, f"{quick:.0f}",
            f"{look / rounds * 1e3:.0f}", f"{hourly / NEW:.1f}", f"{memory:.0f}",
            f"{size / 1e6:.1f}",
        )  # fmt: skip


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that a call takes, and its result."""
    begin = time.perf_counter()
    result = run()
    return time.perf_counter() - begin, result


def serve(count: int, pipe: Connection) -> None:
    """Answer listings until the process is killed; the pipe asks for figures and more objects."""
    chance = random.Random(30)
    keys = sorted(f"in/{chance.getrandbits(48):012x}.jpg" for _ in range(count))
    requests = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer any request as ListObjectsV2."""
            nonlocal requests
            requests += 1
            asked = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            after = asked.get("continuation-token") or asked.get("start-after", "")
            begin = bisect_right(keys, after)
            found = keys[begin : begin + 1000]
            content = page(found, begin + 1000 < len(keys)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(f"http://127.0.0.1:{server.server_port}")
    while True:
        what = pipe.recv()
        if what == "add":
            for _ in range(NEW):
                insort(keys, f"in/{chance.getrandbits(48):012x}.jpg")
        pipe.send(requests)
        requests = 0


def page(keys: Sequence[str], more: bool) -> str:
    """Return a page of a listing, and whether another one follows, as S3 does."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        '<ETag>"00000000000000000000000000000000"</ETag><Size>24000</Size>'
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    token = f"<NextContinuationToken>{keys[-1]}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        f"<EncodingType>url</EncodingType>{entries}</ListBucketResult>"
    )


if __name__ == "__main__":
    main()
