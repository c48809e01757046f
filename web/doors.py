"""Refuses requests that another site's page makes a browser send, by their Host and Origin."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sightstream.io import address

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SENTENCE = (
    "The page does not answer to this Host or Origin. Open it by the address that it printed; "
    "where a proxy leads to it, name its host in web_hosts.\n"
)


class Doors:
    """ASGI middleware; without its look, a name that resolves to this machine reaches the page."""

    def __init__(self, app: ASGIApp, names: Collection[str], proxies: Collection[str]) -> None:
        """Let through requests to these names, or to any address in figures.

        A name can be made to resolve to this machine by whoever owns it, an address cannot. An
        Origin must be that of the request, or one of the proxies.
        """
        self._app = app
        self._names = {each.lower() for each in names}
        self._proxies = {each.lower() for each in proxies}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to foreign requests; a WebSocket is closed before it is accepted."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._is_ours(scope):
            # Streamlit would look at it too, and ask an outside service for this machine's address.
            kept = [each for each in scope["headers"] if each[0] != b"origin"]
            await self._app({**scope, "headers": kept}, receive, send)
            return
        from starlette.responses import PlainTextResponse
        from starlette.websockets import WebSocketClose

        refusal = PlainTextResponse(_SENTENCE, 403) if scope["type"] == "http" else WebSocketClose()
        await refusal(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        given: dict[bytes, list[str]] = {b"host": [], b"origin": []}
        for name, value in scope["headers"]:
            if name in given:
                given[name].append(value.decode("latin-1").lower())
        hosts, origins = given.values()
        if len(hosts) != 1 or not address.is_known(hosts[0], self._names):
            return False
        return all(self._is_same(each, hosts[0]) for each in origins)

    def _is_same(self, origin: str, host: str) -> bool:
        _, separator, place = origin.partition("://")
        return bool(separator) and (place == host or address.name(place) in self._proxies)
