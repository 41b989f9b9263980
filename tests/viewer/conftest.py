"""The viewer in a real browser: Debian's Chromium, or Chrome, driven by Playwright."""

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from made_view import TOKEN, make_results
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from wsi_ncmi.tools.view import command
from wsi_ncmi.tools.view.page import FOLDER, INDEX, read_page
from wsi_ncmi.tools.view.results import Asked, Results

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 10_000
LAPTOP = {"width": 1366, "height": 768}


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of the built page."""
    if not (FOLDER / INDEX).is_file():
        pytest.skip("the viewer's page is not built: run `make viewer`")
    return FOLDER


@pytest.fixture(scope="session")
def browser(built: Path) -> Iterator[Browser]:
    """One browser for all tests; none of them keeps anything in it."""
    found = os.environ.get("BROWSER_FOR_TESTS") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results/demo`, which no test changes."""
    return make_results(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="session")
def address(built: Path, results: Path) -> Iterator[str]:
    """Of a running server."""
    with serving(results) as address:
        yield address


class serving:  # noqa: N801
    """A server of results, as `wsi-ncmi view` starts it, in a thread."""

    def __init__(self, results: Path) -> None:
        listening = command.listen(0)
        port = listening.getsockname()[1]
        app = command.application(Results(results, Asked()), read_page(), TOKEN, port)
        self.address = f"http://127.0.0.1:{port}/{TOKEN}/"
        self.server = command.Server(command.server_config(app), self.address, browse=False)
        run = {"sockets": [listening]}
        self.thread = threading.Thread(target=self.server.run, kwargs=run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return self.address

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As Ctrl-C does."""
        self.server.should_exit = True
        self.thread.join(10)


@dataclass
class Seen:
    """What a page asked for, and what it complained of."""

    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def watch(self, page: Page) -> None:
        """Note everything from now on."""
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _hear(self, message: ConsoleMessage) -> None:
        """OpenSeadragon notes tiles that come after their slide was left: that is no complaint."""
        if message.type in ("error", "warning") and not message.text.startswith("Ignoring tile"):
            self.complaints.append(message.text)


@pytest.fixture
def seen() -> Seen:
    """Filled by `page`; a test that makes the page complain empties it."""
    return Seen()


@pytest.fixture
def page(browser: Browser, seen: Seen) -> Iterator[Page]:
    """An empty page on a laptop's screen. Afterwards: no complaint, and no other host was asked."""
    context = browser.new_context(viewport=LAPTOP, reduced_motion="reduce", accept_downloads=True)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    seen.watch(page)
    yield page
    context.close()
    assert not seen.complaints
    assert all(not host or host.startswith("127.0.0.1:") for host in seen.hosts), seen.hosts
