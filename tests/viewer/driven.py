"""A viewer in the browser, as the tests speak of it."""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, Request
from safetensors.numpy import load

OVERLAY = "(n) => document.querySelectorAll('.view .overlay')[n].toDataURL()"
RAMP = "() => document.querySelector('[data-overlay=attention] .legend canvas').toDataURL()"
FRAMES = """async () => {
  for (let n = 0; n < 4; n++) await new Promise(requestAnimationFrame);
}"""
STEADY = """async () => {
  for (let before = null; ; ) {
    if (before === location.hash) return before.slice(1);
    before = location.hash;
    await new Promise((done) => setTimeout(done, 450));
  }
}"""
PNG = "data:image/png;base64,"


@dataclass
class Viewer:
    """The page at one server's address."""

    page: Page
    address: str

    def open(self, fragment: str = "") -> "Viewer":
        """Open the page anew; with `slide=` in the fragment, until all of the slide is there."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}#{fragment}")
        self.page.wait_for_selector("tr[data-slide]")
        slide = dict(part.partition("=")[::2] for part in fragment.split("&")).get("slide")
        if slide:
            self.ready(slide)
        return self

    def ready(self, slide: str) -> None:
        """Wait until the slide's tiles and overlays are there and drawn."""
        self.page.wait_for_selector(f"#slide[data-ready={slide}]")
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.page.evaluate(FRAMES)

    def json(self, key: str) -> Any:
        """What the server says."""
        return json.loads(self.page.request.get(self.address + key).body())

    def arrays(self, key: str) -> dict[str, NDArray[Any]]:
        """A safetensors file of the server."""
        return load(self.page.request.get(self.address + key).body())

    @property
    def fragment(self) -> str:
        """Of the address, once it has not changed for longer than the page waits to change it."""
        return self.page.evaluate(STEADY)

    @property
    def ids(self) -> list[str]:
        """Slides whose rows exist, from the top."""
        rows = self.page.locator("tr[data-slide]")
        return rows.evaluate_all("rows => rows.map(row => row.dataset.slide)")

    def row(self, slide: str) -> Locator:
        """A slide's row."""
        return self.page.locator(f"tr[data-slide={slide}]")

    def cursor(self) -> str:
        """What stands below the slide."""
        return self.page.inner_text("#cursor")

    def overlay(self, view: int = 0) -> NDArray[np.uint8]:
        """What is drawn over a view: RGBA [h, w, 4], a pixel per CSS pixel."""
        return _pixels(self.page.evaluate(OVERLAY, view))

    def ramp(self) -> NDArray[np.uint8]:
        """The colours of attention's legend, RGB [256, 3]."""
        return _pixels(self.page.evaluate(RAMP))[0, :, :3]

    def box(self, view: int = 0) -> tuple[float, float, float, float]:
        """Of a view on the page: x, y, width, height."""
        box = self.page.locator(".view .overlay").nth(view).bounding_box()
        assert box is not None
        return box["x"], box["y"], box["width"], box["height"]


def _pixels(url: str) -> NDArray[np.uint8]:
    import base64

    assert url.startswith(PNG)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url[len(PNG) :]))).convert("RGBA"))


def is_of(request: Request, key: str) -> bool:
    """Whether a request asks for this key."""
    return request.url.split("#")[0].endswith(key)
