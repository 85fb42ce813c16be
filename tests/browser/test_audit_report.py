"""The audit report in a real browser: filters, cards, the viewer; no errors and no network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantoms import write_dataset, write_nifti

from pipeline.audit.config import AuditConfig
from pipeline.audit.stage import audit
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]
# WebGL without a graphics card.
SOFTWARE_GL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser on this machine")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Six cases: an undeclared value in two of them, a label that lies 12 mm off in another."""
    folder = tmp_path_factory.mktemp("report")
    data = write_dataset(folder / "data", 6)
    for number, is_painted in ((1, True), (2, True), (4, False)):
        file = data / "labelsTr" / f"case_{number:03d}.nii.gz"
        stored = nib.load(file)
        label, affine = np.asarray(stored.dataobj).copy(), stored.affine.copy()
        if is_painted:
            label[3:6, 4:7, 5:8] = 9
        else:
            affine[:3, 3] += 12.0
        write_nifti(file, label, affine)
    workspace = Workspace(folder / "work")
    ingest(IngestConfig(), TaskConfig(), data, workspace, NullTracker())
    audit(AuditConfig(max_pictures=6), workspace, NullTracker())
    return workspace.stage_dir("audit") / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *SOFTWARE_GL])
        yield started
        started.close()


@contextmanager
def opened(browser, report: Path, script: str = "", **settings) -> Iterator[object]:
    """The page; leaving fails if it complained or asked for anything but itself."""
    page = browser.new_page(viewport={"width": 1200, "height": 800}, **settings)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    if script:
        page.add_init_script(script)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert complaints == []
    assert requests == [report.as_uri()]


def shown_rows(page):
    return page.evaluate(
        "[...document.querySelectorAll('#groups > .group:not([hidden]) tbody tr:not([hidden])')]"
        ".map((row) => row.cells[0].textContent)"
    )


def test_findings_can_be_filtered_and_opened(report, browser):
    with opened(browser, report) as page:
        everything = shown_rows(page)
        page.get_by_role("button", name="error").click()
        assert set(page.locator(".group:visible").evaluate_all("g => g.map(x => x.id)")) >= {
            "E01-error",
            "G02-error",
        }
        assert page.locator(".group[data-state=info]:visible").count() == 0
        page.locator("#finder-check").select_option("E01")
        assert shown_rows(page) == ["case_001", "case_002"]
        page.locator("#finder-text").fill("CASE_002 9")
        assert shown_rows(page) == ["case_002"]
        assert "1 of" in page.inner_text("#finder-count")
        page.locator("#E01-error summary").click()
        assert page.locator("#E01-error .figure:visible h3").all_inner_texts() == ["case_002"]
        page.locator("#finder-text").fill("no such words")
        assert page.locator("#finder-none").is_visible()
        page.locator("#finder-text").fill("")
        page.locator("#finder-check").select_option("")
        page.get_by_role("button", name="error").click()
        assert shown_rows(page) == everything


def test_a_check_opens_by_keyboard_and_by_link(report, browser):
    with opened(browser, report) as page:
        group = page.locator("#G02-error")
        assert not group.locator(".figure").first.is_visible()
        group.locator("summary").focus()
        page.keyboard.press("Enter")
        group.locator(".figure img").first.wait_for()
        page.evaluate("location.hash = '#G08-info'")
        page.locator("#G08-info[open]").wait_for()


def test_the_viewer_opens_at_the_finding_and_scrolls(report, browser):
    # Less motion leaves out the rendered solid, which takes long without a graphics card.
    with opened(browser, report, reduced_motion="reduce") as page:
        page.locator("#E01-error summary").click()
        page.locator("#E01-error [data-viewer]").first.click()
        page.locator("#viewer-canvas[data-ready]").wait_for(timeout=30_000)
        text = page.inner_text("#viewer-place")
        assert "label: undeclared 9" in text
        first = int(text.split(",")[2].split()[0])
        page.locator("#viewer-canvas").press("PageUp")
        assert int(page.inner_text("#viewer-place").split(",")[2].split()[0]) == first + 1
        page.locator("#viewer-slice-2").fill("0")
        assert page.inner_text("#viewer-place").split(",")[2].startswith(" 0 ")
        box = page.locator("#viewer-canvas").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
        before = page.inner_text("#viewer-place")
        page.mouse.wheel(0, -120)
        page.wait_for_function(
            "t => document.getElementById('viewer-place').innerText != t", arg=before
        )
        page.locator("#viewer-home").click()
        assert "label: undeclared 9" in page.inner_text("#viewer-place")
        assert colors_drawn(page) > 20
        page.locator("#viewer-case").select_option(index=2)
        page.locator("#viewer-canvas[data-ready]").wait_for(timeout=30_000)
        page.keyboard.press("Escape")
        assert not page.locator("#viewer").is_visible()
        # The closed viewer has no size; drawing into it would end on the console.
        page.set_viewport_size({"width": 900, "height": 700})
        page.wait_for_timeout(300)


def colors_drawn(page) -> int:
    """Different pixels of the viewer; a blank canvas has one or two."""
    from io import BytesIO

    from matplotlib.image import imread

    picture = imread(BytesIO(page.locator("#viewer-canvas").screenshot()))
    return len(np.unique((picture[..., :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0))


def test_without_webgl_the_pictures_remain(report, browser):
    blocked = "HTMLCanvasElement.prototype.getContext = () => null;"
    with opened(browser, report, blocked) as page:
        assert page.locator("[data-viewer]:visible").count() == 0
        assert page.get_by_text("no WebGL2").is_visible()
        page.locator("#E01-error summary").click()
        page.locator("#E01-error .figure img").first.wait_for()


def test_without_script_every_finding_is_in_the_page(report, browser):
    with opened(browser, report, java_script_enabled=False) as page:
        page.locator("#G02-error summary").click()
        assert page.locator("#G02-error tbody tr").first.is_visible()


@pytest.mark.parametrize("width", [500, 800, 1400])
def test_nothing_is_wider_than_the_window(report, browser, width):
    with opened(browser, report) as page:
        page.set_viewport_size({"width": width, "height": 800})
        page.locator("#finder-open").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
