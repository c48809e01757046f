"""A bucket that speaks S3: of AWS, MinIO, Ceph and others, by AWS' own client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, cast

from sightstream.images.limits import Limits, Rejected
from sightstream.images.store import Image
from streaming.bucket.store import AwayError, Object, sentence

GONE = Rejected("not_found", "There is no such object any more.")
CHANGED = Rejected(
    "not_found", "It was overwritten before it was read; the newer object has its own row."
)


@dataclass(frozen=True)
class S3:
    """A bucket by its name; see `streaming.bucket.store.Bucket`."""

    name: str
    sorts: Final = True

    @property
    def root(self) -> str:
        """The bucket's uri."""
        return f"s3://{self.name}/"

    def pages(self, folder: str, after: str = "") -> Iterator[list[Object]]:
        """Yield up to 1,000 objects for each request, in the order of their keys' bytes."""
        more = {"StartAfter": after} if after else {}
        with _told():
            pages = _client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.name, Prefix=folder, **more):
                yield [
                    Object(each["Key"], each.get("ETag", ""), each["Size"], _seconds(each))
                    for each in page.get("Contents", ())
                ]

    def find(self, key: str) -> Object | None:
        """Return the object that has a key now."""
        from botocore.exceptions import ClientError

        with _told():
            try:
                found = _client().head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise
        return Object(key, found.get("ETag", ""), found["ContentLength"], _seconds(found))

    def read(self, key: str, version: str, limits: Limits) -> Image:
        """Return the content that has this ETag, or any where it is empty, in one request."""
        from botocore.exceptions import ClientError

        same = {"IfMatch": version} if version else {}
        with _told():
            try:
                found = _client().get_object(Bucket=self.name, Key=key, **same)
            except ClientError as error:
                if _code(error) in {"NoSuchKey", "404"}:
                    return GONE
                if _status(error) == 412:
                    return CHANGED
                raise
            with closing(found["Body"]) as body:
                return limits.rejection(found["ContentLength"]) or bytes(body.read())

    def probe(self, folder: str) -> None:
        """Ask for one object."""
        with _told():
            _client().list_objects_v2(Bucket=self.name, Prefix=folder, MaxKeys=1)

    def tag(self, key: str, name: str, value: str) -> None:
        """Give an object a tag beside those that it has."""
        with _told():
            at = {"Bucket": self.name, "Key": key}
            tags = _client().get_object_tagging(**at)["TagSet"]
            kept = [each for each in tags if each["Key"] != name]
            tags = [*kept, {"Key": name, "Value": value}]
            _client().put_object_tagging(**at, Tagging={"TagSet": tags})

    def move(self, key: str, version: str, bucket: str, name: str) -> None:
        """Move an object to another key, or bucket; one of another version stays."""
        from botocore.exceptions import ClientError

        source = {"Bucket": self.name, "Key": key}
        with _told():
            try:
                _client().copy_object(
                    Bucket=bucket, Key=name, CopySource=source, CopySourceIfMatch=version
                )
                _client().delete_object(**source, IfMatch=version)
            except ClientError as error:
                if _status(error) not in {404, 412} or _code(error) == "NoSuchBucket":
                    raise


@lru_cache(1)
def _client() -> Any:
    """Return this process's client; its credentials are renewed by themselves."""
    import boto3
    import botocore.session
    from botocore.config import Config

    session = botocore.session.get_session()
    # Its own parser of times takes three quarters of the time to read a listing.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    config = Config(
        retries={"mode": "standard", "max_attempts": 3}, connect_timeout=3, read_timeout=10,
        max_pool_connections=32,
        # Stores that are not AWS' know no other checksums than those of before.
        request_checksum_calculation="when_required", response_checksum_validation="when_required",
    )  # fmt: skip
    # Arrow and delta-rs read this variable as well; boto3 knows the other one alone.
    region = os.environ.get("AWS_REGION") or None
    return boto3.Session(botocore_session=session).client("s3", region, config=config)


def _time(text: Any) -> datetime:
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(text)
    except (ValueError, TypeError):  # of a header, or a number
        return cast(datetime, parse_timestamp(text))


@contextmanager
def _told() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {}).get("Message") or _status(error)
        raise AwayError(f"{_code(error)}: {sentence(said)}") from None
    except (BotoCoreError, HTTPClientError, OSError, ValueError) as error:
        raise AwayError(sentence(error)) from None


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "error"))


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _seconds(found: dict[str, Any]) -> float:
    return float(found["LastModified"].timestamp())
