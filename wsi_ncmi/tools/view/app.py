"""The application: what is answered to each address below the token. See docs/viewer.md."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from wsi_ncmi.config.cohort import Attention
from wsi_ncmi.config.tiling import Tissue
from wsi_ncmi.errors import AbsentError, TimedOutError, UnreachableError, UserError
from wsi_ncmi.tools.view import layers
from wsi_ncmi.tools.view.guard import error_body, respond
from wsi_ncmi.tools.view.opened import BusyError
from wsi_ncmi.tools.view.page import INDEX, kind_of
from wsi_ncmi.tools.view.shown import Shown
from wsi_ncmi.tools.view.source import SlidePlace, Source

JPEG, JSON, BINARY = "image/jpeg", "application/json", "application/octet-stream"
KEPT = {"cache-control": "private, max-age=3600"}
FRESH = {"cache-control": "private, no-cache"}
TILE = re.compile(r"/slides/([^/]+)/tiles/(\d{1,3})/(\d{1,7})_(\d{1,7})\.jpg", re.ASCII)
KEPT_RAW = [(b"cache-control", KEPT["cache-control"].encode())]

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Settings:
    """What the configuration says of overlays."""

    lesions: Attention = field(default_factory=Attention)
    tissue: Tissue = field(default_factory=Tissue)


def status_of(error: Exception) -> int:
    """The status of the response to an error."""
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return status
    raise error


STATUSES: list[tuple[type[Exception], int]] = [
    (AbsentError, 410),
    (TimedOutError, 504),
    (UnreachableError, 503),
    (BusyError, 503),
    (UserError, 404),
    (IndexError, 404),
]
ANSWERED = tuple(kind for kind, _ in STATUSES)


class Application:
    """ASGI, behind the guard.

    Args:
        page: name -> content of the page's files.
    """

    def __init__(
        self, source: Source, shown: Shown, page: Mapping[str, bytes], settings: Settings
    ) -> None:
        self.source, self.shown, self.page, self.settings = source, shown, page, settings
        slide = "/slides/{slide_id}"
        arm = "{task}/{aggregator}/{objective}"
        routes: dict[str, Answer] = {
            "/": self.index,
            "/page/{name}": self.file,
            "/data/overview.json": self.overview,
            "/data/slides.json": self.slides,
            f"/data/predictions/{arm}.json": self.predictions,
            f"{slide}/info.json": self.info,
            f"{slide}/thumbnail.jpg": self.thumbnail,
            f"{slide}/grid.safetensors": self.grid,
            f"{slide}/attention/{arm}.safetensors": self.attention,
            f"{slide}/annotations.json": self.annotations,
            f"{slide}/mask.png": self.mask,
            f"{slide}/crops/{{index:int}}.jpg": self.crop,
        }
        self.others = Starlette(
            routes=[Route(path, answer) for path, answer in routes.items()],
            exception_handlers={HTTPException: _refused, **dict.fromkeys(ANSWERED, _failed)},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; tiles take the short way."""
        found = TILE.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self.others(scope, receive, send)
            return
        slide_id, *place = found.groups()
        try:
            body = await self.shown.tile(slide_id, *map(int, place))
        except ANSWERED as error:
            await respond(send, status_of(error), error_body(str(error)), JSON.encode())
            return
        await respond(send, 200, body, b"image/jpeg", KEPT_RAW)

    async def index(self, request: Request) -> Response:
        """The page."""
        return Response(self.page[INDEX], media_type=kind_of(INDEX), headers=FRESH)

    async def file(self, request: Request) -> Response:
        """A file of the page."""
        name = request.path_params["name"]
        if name not in self.page:
            raise HTTPException(404, "the page has no such file")
        return Response(self.page[name], media_type=kind_of(name), headers=FRESH)

    async def overview(self, request: Request) -> Response:
        """What is shown, and its tasks."""
        return await self._json(self.source.overview)

    async def slides(self, request: Request) -> Response:
        """The rows of the table."""
        return await self._json(lambda: {"slides": self.source.slides()})

    async def predictions(self, request: Request) -> Response:
        """What an arm makes of the slides."""
        task, arm = request.path_params["task"], _arm(request)
        found = await self._done(lambda: self.source.predictions(task, arm))
        if found is None:
            raise HTTPException(404, f"task {task} has no arm {arm} that is trained")
        return await self._json(lambda: found)

    async def info(self, request: Request) -> Response:
        """Size, scale and levels of a slide."""
        found = await self.shown.info(request.path_params["slide_id"])
        return await self._json(lambda: found)

    async def thumbnail(self, request: Request) -> Response:
        """The whole slide in few pixels."""
        body = await self.shown.thumbnail(request.path_params["slide_id"])
        return Response(body, media_type=JPEG, headers=KEPT)

    async def crop(self, request: Request) -> Response:
        """One tile of the grid."""
        slide_id, index = request.path_params["slide_id"], request.path_params["index"]
        return Response(await self.shown.crop(slide_id, index), media_type=JPEG, headers=KEPT)

    async def grid(self, request: Request) -> Response:
        """Tiles and their measures."""
        return await self._layer(request, layers.grid)

    async def attention(self, request: Request) -> Response:
        """Where an arm looks."""
        task, arm = request.path_params["task"], _arm(request)
        return await self._layer(request, lambda place: layers.attention(place, task, arm))

    async def annotations(self, request: Request) -> Response:
        """Annotated areas."""
        place = await self.shown.place(request.path_params["slide_id"])
        return await self._json(lambda: layers.annotations(place, self.settings.lesions))

    async def mask(self, request: Request) -> Response:
        """The tissue mask."""
        place = await self.shown.place(request.path_params["slide_id"])
        png, downsample = await self._done(lambda: layers.mask(place, self.settings.tissue))
        headers = {**KEPT, "x-downsample": f"{downsample:.9g}"}
        return Response(png, media_type="image/png", headers=headers)

    async def _layer(self, request: Request, make: Callable[[SlidePlace], bytes]) -> Response:
        place = await self.shown.place(request.path_params["slide_id"])
        body = await self._done(lambda: make(place))
        return Response(body, media_type=BINARY, headers=FRESH)

    async def _json(self, make: Callable[[], Any]) -> Response:
        body = await self._done(lambda: to_json(make()))
        return Response(body, media_type=JSON, headers=FRESH)

    async def _done(self, work: Callable[[], Any]) -> Any:
        return await self.shown.threads.run(work, self.source.name)


def to_json(content: Any) -> bytes:
    """JSON as browsers read it, which know no NaN."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def _arm(request: Request) -> str:
    return f"{request.path_params['aggregator']}/{request.path_params['objective']}"


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(error_body(error.detail), error.status_code, media_type=JSON)


async def _failed(request: Request, error: Exception) -> Response:
    return Response(error_body(str(error)), status_of(error), media_type=JSON)
