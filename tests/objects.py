"""A local object store that speaks S3."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from pyarrow import fs

from streaming.bucket import s3
from tests.conftest import end_session


@contextmanager
def running(folder: Path, bucket: str) -> Iterator[dict[str, str]]:
    """Runs it until the block ends.

    Args:
        folder: for its log.
        bucket: is created.

    Yields:
        The environment that leads S3's clients to it.
    """
    log = folder / "objects.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://(127\.0\.0\.1:\d+)", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        store = fs.S3FileSystem(
            access_key="a key", secret_key="a secret", region="eu-central-1", scheme="http",
            endpoint_override=found[1], allow_bucket_creation=True,
        )  # fmt: skip
        store.create_dir(bucket)
        yield {
            "AWS_ACCESS_KEY_ID": "a key", "AWS_SECRET_ACCESS_KEY": "a secret",
            "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": f"http://{found[1]}", "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip
    finally:
        end_session(process)


@contextmanager
def client(folder: Path, bucket: str) -> Iterator[Any]:
    """Runs it, and leads this process's clients to it; yields one of boto3."""
    before = dict(os.environ)
    with running(folder, bucket) as environment:
        os.environ.update(environment)
        s3._client.cache_clear()
        try:
            yield boto3.client("s3")
        finally:
            os.environ.clear()
            os.environ.update(before)
            s3._client.cache_clear()
