"""A real browser for tests of pages: software WebGL, no network, no complaints."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imread

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    # WebGL without a graphics card.
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
]


@contextmanager
def started_browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, file: Path, **settings: Any) -> Iterator[Any]:
    """A page; leaving fails if it complained or asked for anything but itself."""
    page = browser.new_page(viewport={"width": 1200, "height": 800}, **settings)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert not complaints, complaints
    # Pictures inside the page are addresses too; only the page itself may be fetched.
    fetched = [url for url in requests if not url.startswith("data:")]
    assert fetched == [file.as_uri()], [url[:80] for url in fetched]


def n_colors(element: Any) -> int:
    """Different colors of an element; a blank canvas has one or two."""
    picture = imread(BytesIO(element.screenshot()))
    return len(np.unique((picture[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0))
