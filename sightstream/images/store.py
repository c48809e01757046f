"""Claim checks: images that a message names instead of carrying them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import unquote

from sightstream.images.decode import Limits, Rejected
from sightstream.images.event import is_below, local_path
from sightstream.scoring.classifier import Image


class Claims:
    """Reads what lies below the allowed prefixes; goes to the workers with the UDF."""

    def __init__(self, prefixes: Sequence[str], limits: Limits) -> None:
        """Remembers what is allowed.

        Args:
            prefixes: uris of folders.
            limits: larger images are rejected.
        """
        self._prefixes = prefixes
        self._limits = limits

    def __call__(self, uri: str) -> Image:
        """The path or the content of an image; what may not or cannot be read is rejected."""
        prefix = next((each for each in self._prefixes if is_below(uri, [each])), None)
        if prefix is None:
            return Rejected("uri_refused", "Its uri is not below one of kafka_uri_prefixes.")
        if uri.startswith("file:"):
            # Links that stay below the prefix are followed here; what is swapped for a link
            # between this and the opening is not.
            return os.path.realpath(local_path(uri))
        try:
            return self._remote(prefix, uri)
        except FileNotFoundError:
            return Rejected("not_found", "There is no such file.")
        except Exception as error:  # whatever a store's client comes up with
            reason = str(error).partition("\n")[0][:200]
            return Rejected("unreadable", f"The file cannot be read: {reason}.")

    def _remote(self, prefix: str, uri: str) -> Image:
        from pyarrow import fs

        # The store is that of the prefix: what a uri says of hosts and keys is not obeyed.
        store, folder = fs.FileSystem.from_uri(prefix.rstrip("/"))
        name = unquote(uri.removeprefix(prefix.rstrip("/") + "/"))
        with store.open_input_file(f"{folder}/{name}") as file:
            size = file.size()
            if size > self._limits.max_bytes:
                limit = f"the limit is {self._limits.max_bytes:,}"
                return Rejected("too_large", f"{size:,} bytes; {limit}.")
            content: bytes = file.read()
        return content
