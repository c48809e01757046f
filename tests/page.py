"""The page as a browser opens it: over its WebSocket, on which its scripts run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

LIVE = "live"
"""The page with the newest rows, which looks at the table each second."""

PATIENCE = 60.0
"""Seconds without a message, after which it is a fault."""


@contextmanager
def opened(url: str, page: str) -> Iterator[Iterator[ForwardMsg]]:
    """Opens a page of an address, until the block ends; yields what it says.

    TimeoutError where it says nothing for `PATIENCE`.
    """
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.sync.client import connect
    from websockets.typing import Origin, Subprotocol

    place = urlsplit(url).netloc
    with connect(
        f"ws://{place}/_stcore/stream", origin=Origin(url),
        subprotocols=[Subprotocol("streamlit")], max_size=None,
    ) as socket:  # fmt: skip
        ask = BackMsg()
        ask.rerun_script.page_name = page
        socket.send(ask.SerializeToString())

        def said() -> Iterator[ForwardMsg]:
            while True:
                yield ForwardMsg.FromString(socket.recv(timeout=PATIENCE))

        yield said()
