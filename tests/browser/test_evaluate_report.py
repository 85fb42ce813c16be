"""The evaluation report in a real browser: tables, drawings, the viewer; nothing from outside."""

import nibabel as nib
import numpy as np
import pytest
from browsing import CHROMIUM, n_colors, opened, started_browser
from evaluate_builders import cases_of, evaluation_of, spread, with_surfaces
from phantoms import write_dataset, write_nifti

from pipeline.core.tracker import NullTracker
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.inputs import input_from_folders
from pipeline.evaluate.report import render_report
from pipeline.evaluate.stage import evaluate
from pipeline.io.discover import list_volumes

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser on this machine")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Four cases: three moved by a voxel, one without a prediction."""
    folder = tmp_path_factory.mktemp("evaluate")
    data = write_dataset(folder / "data", 4, shape=(20, 22, 18))
    for case_id, file in list(list_volumes(data / "labelsTr").items())[1:]:
        stored = nib.load(file)
        moved = np.roll(np.asarray(stored.dataobj), 1, axis=0)
        write_nifti(folder / "predictions" / f"{case_id}.nii.gz", moved, stored.affine)
    source = input_from_folders(folder / "predictions", data / "labelsTr", out_root=folder / "out")
    evaluate(EvaluateConfig(n_worst_pictures=2), source, folder / "out", NullTracker())
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory):
    columns = {f"a structure with a long name {n}": [*spread(15), "missed"] for n in range(30)}
    cases = tuple(with_surfaces(case) for case in cases_of(**columns))
    file = tmp_path_factory.mktemp("many") / "report.html"
    file.write_text(render_report(evaluation_of(cases), ()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser():
    with started_browser() as started:
        yield started


def test_the_viewer_says_what_kind_of_error_a_voxel_is(report, browser):
    # Less motion leaves out the rendered solid, which takes long without a graphics card.
    with opened(browser, report, reduced_motion="reduce") as page:
        assert page.locator("[data-viewer]:visible").count() == 2
        page.locator("[data-viewer]").first.click()
        page.locator("#viewer-canvas[data-ready]").wait_for(timeout=30_000)
        text = page.inner_text("#viewer-place")
        # It opens at a voxel that differs.
        assert any(kind in text for kind in ("predicted only", "reference only", "predicted as"))
        assert "both" in page.inner_text("#viewer-layers")
        assert n_colors(page.locator("#viewer-canvas")) > 20


def test_outlines_wait_behind_a_click(report, browser):
    with opened(browser, report) as page:
        figure = page.locator(".figure").first
        figure.scroll_into_view_if_needed()
        figure.locator("img").nth(0).wait_for()
        assert not figure.locator("img").nth(1).is_visible()
        figure.locator("summary").click()
        figure.locator("img").nth(1).wait_for()


def test_cases_can_be_searched_and_sorted(report, browser):
    with opened(browser, report) as page:
        rows = page.locator("#case-table tbody tr:visible")
        assert rows.count() == 4
        page.locator("input[data-filter=case-table]").fill("case_002")
        assert rows.count() == 1
        page.locator("input[data-filter=case-table]").fill("")
        page.locator("#case-table th button", has_text="Mean Dice").click()
        page.locator("#case-table th button", has_text="Mean Dice").click()
        values = [float(row.split("\t")[1]) for row in rows.all_inner_texts()]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("which", ["report", "many_classes"])
def test_nothing_is_wider_than_the_window(which, browser, request):
    with opened(browser, request.getfixturevalue(which)) as page:
        for width in (500, 800, 1400):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_more_volume_drawings_open_by_a_click(many_classes, browser):
    with opened(browser, many_classes) as page:
        assert page.locator(".agreement:visible").count() == 12
        page.locator("#volumes summary").click()
        assert page.locator(".agreement:visible").count() == 30
