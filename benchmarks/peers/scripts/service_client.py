"""Starts the service with a worker a core, and posts images from 16 connections that are kept."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from threading import local

from protocol import CORES, ROWS, answer

PORT, CONNECTIONS = 23411, 16
BOUNDARY = "a-line-that-no-image-holds"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
mine = local()


def post(path: str) -> int:
    """The label that the service has for a file."""
    if not hasattr(mine, "connection"):
        mine.connection = HTTPConnection("127.0.0.1", PORT)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image.jpg"\r\n'
    body = b"%s\r\n%s\r\n--%s--\r\n" % (head.encode(), Path(path).read_bytes(), BOUNDARY.encode())
    mine.connection.request("POST", "/predict", body, HEADERS)
    response = mine.connection.getresponse()
    told = response.read()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {told!r}")
    return int(json.loads(told)["label"])


def classify(folder: str) -> int:
    """All images of a folder."""
    paths = sorted(entry.path for entry in os.scandir(folder))
    with (ROWS / "rows.csv").open("a") as out:
        for path, label in zip(paths, pool.map(post, paths), strict=True):
            out.write(f"{path},{label}\n")
    return len(paths)


def trickle(path: str, rate: float, seconds: float) -> list[float]:
    """Seconds to the answer of each request, at so many requests a second."""

    def timed(due: float) -> float:
        time.sleep(max(0.0, due - time.time()))
        begin = time.time()
        post(path)
        return time.time() - begin

    begin = time.time()
    return [timed(begin + number / rate) for number in range(int(rate * seconds))]


command = [sys.executable, "-m", "uvicorn", "service:app", "--workers", str(CORES)]
command += ["--port", str(PORT), "--log-level", "warning", "--no-access-log"]
# Else connections, and workers, are given up that only stood still while another was measured.
command += ["--timeout-keep-alive", "3600", "--timeout-worker-healthcheck", "3600"]
service = subprocess.Popen(command, stdin=subprocess.DEVNULL)
while service.poll() is None:
    try:
        HTTPConnection("127.0.0.1", PORT).connect()
        break
    except ConnectionRefusedError:
        time.sleep(0.02)
try:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answer(classify=classify, trickle=trickle)
finally:
    service.terminate()
    service.wait()
