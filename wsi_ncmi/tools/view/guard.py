"""Who is answered: the browser of this machine that was given the address, and only with reading.

Another page in the same browser knows neither the token nor, by a name of its own that points here
(DNS rebinding), the right Host.
"""

import html
import json
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from secrets import compare_digest

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS: Headers = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
SAYS_HOW = "open the address that `wsi-ncmi view` has printed: it holds a token"


class Guard:
    """The outermost part of the application.

    Args:
        app: is given paths without the token.
        token: that every path begins with.
        port: of the address, which `Host` must name.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token, self.prefix = app, token, f"/{token}/"
        self.hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
        self.cookie = f"wsi-ncmi-view-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, _with_headers(send, self._extra(scope)))
        # of a websocket there is none: it is refused by saying nothing

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            allow = [(b"allow", b"GET, HEAD")]
            await _refuse(scope, send, 405, "nothing can be changed here", allow)
        elif not self._is_host(scope["headers"]):
            error = "the Host of the request is not this machine's loopback"
            await _refuse(scope, send, 403, error)
        elif path.startswith("/") and self._has_token(path):
            inner = {**scope, "path": path[len(self.prefix) - 1 :], "root_path": ""}
            await self.app(inner, receive, send)
        elif (path == "/" and self._has_cookie(scope["headers"])) or self._has_token(f"{path}/"):
            await answer(send, 303, "moved", [(b"location", self.prefix.encode())])
        else:
            await _refuse(scope, send, 403, SAYS_HOW)

    def _has_token(self, path: str) -> bool:
        begins = path[: len(self.prefix)].encode()
        return compare_digest(begins, self.prefix.encode())

    def _is_host(self, headers: Headers) -> bool:
        named = [value for name, value in headers if name == b"host"]
        return len(named) == 1 and named[0] in self.hosts

    def _has_cookie(self, headers: Headers) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        for name, value in headers:
            if name == b"cookie":
                try:
                    cookies.load(value.decode("latin-1"))
                except CookieError:
                    return False
        found = cookies.get(self.cookie)
        return found is not None and compare_digest(found.value.encode(), self.token.encode())

    def _extra(self, scope: Scope) -> Headers:
        """The cookie by which `/` finds the page, set with the page itself."""
        if scope["path"] != self.prefix:
            return ALWAYS
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
        return [*ALWAYS, (b"set-cookie", cookie.encode())]


def _with_headers(send: Send, extra: Headers) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *extra]
        await send(message)

    return wrapped


async def _refuse(
    scope: Scope, send: Send, status: int, error: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """As `answer`; to who asks for a page, a page."""
    accepted = [value for name, value in scope["headers"] if name == b"accept"]
    if not any(b"text/html" in value for value in accepted):
        await answer(send, status, error, headers)
        return
    said = f"wsi-ncmi view: {error}"
    page = f'<!doctype html><html lang="en"><title>wsi-ncmi view</title><p>{html.escape(said)}</p>'
    await respond(send, status, page.encode(), b"text/html; charset=utf-8", headers)


async def answer(
    send: Send, status: int, error: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """A whole response that says what is wrong."""
    await respond(send, status, error_body(error), b"application/json", headers)


def error_body(error: str) -> bytes:
    """An error as the page reads it."""
    content: Mapping[str, str] = {"error": error}
    return json.dumps(content, ensure_ascii=False).encode()


async def respond(
    send: Send,
    status: int,
    body: bytes,
    kind: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """A whole response."""
    length = (b"content-length", str(len(body)).encode())
    fields = [(b"content-type", kind), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
