"""Take the pictures of the audit and evaluation reports that the documentation shows.

    python scripts/screenshot_report.py docs/images

A copy of the demo dataset gets faults that people meet (`FAULTS`), is ingested and audited, and the
page is photographed: the overview, one finding card, and the viewer. Then predictions with errors
that models make (`spoiled`) are scored against the demo labels, and that page is photographed. With
`--training PAGE` the page of a training is photographed as well.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from make_demo_dataset import make_dataset
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright

from pipeline.audit.config import AuditConfig
from pipeline.audit.stage import audit
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.inputs import input_from_folders
from pipeline.evaluate.stage import evaluate
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest

TIMEOUT_MS = 60_000
# The viewer draws with WebGL, which SwiftShader computes on machines without a graphics card.
CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
]
# A finding that shows the case among all others, and one that is best seen slice by slice.
CARD = ".group:has(.figure .strip-mark):has([data-viewer])"
VIEWER = "#G02-error"

Label = NDArray[np.uint8]
Affine = NDArray[np.float64]


def main() -> None:
    """Make the faulty dataset, audit it, and save what the report looks like."""
    parser = argparse.ArgumentParser(description="Screenshots of the reports")
    parser.add_argument("output", type=Path, help="folder for the pictures")
    parser.add_argument("--keep", type=Path, help="folder to keep dataset and report in")
    parser.add_argument("--training", type=Path, help="report.html of a finished training")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        report = audit_faulty_demo(options.keep or Path(temporary))
        scores = score_spoiled_demo(options.keep or Path(temporary))
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=options.chromium, args=CHROMIUM_FLAGS)
            page = browser.new_page(
                viewport={"width": 1400, "height": 1000}, device_scale_factor=1.25
            )
            page.goto(report.as_uri())
            photograph(page, options.output)
            page.goto(scores.as_uri())
            photograph_scores(page, options.output)
            if options.training:
                page.goto(options.training.resolve().as_uri())
                page.screenshot(path=options.output / "training.png")
                print(options.output / "training.png")
            browser.close()


def photograph(page: Page, folder: Path) -> None:
    """Save overview, card and viewer."""
    page.evaluate("document.querySelectorAll('.group').forEach((g) => { g.open = false; })")
    page.screenshot(path=folder / "audit_overview.png")
    for name in (CARD, VIEWER):
        page.locator(name).first.locator("summary").click()
    card = page.locator(CARD).first.locator(".figure").first
    card.locator("img").scroll_into_view_if_needed()
    card.screenshot(path=folder / "audit_card.png")
    page.locator(VIEWER).locator("[data-viewer]").first.click()
    page.locator("#viewer-canvas[data-ready]").wait_for(timeout=TIMEOUT_MS)
    page.wait_for_timeout(1000)
    page.locator("#viewer").screenshot(path=folder / "audit_viewer.png")
    for name in ("overview", "card", "viewer"):
        print(folder / f"audit_{name}.png")


def photograph_scores(page: Page, folder: Path) -> None:
    """Save the overview, the drawings of volumes, a worst case and the viewer."""
    page.screenshot(path=folder / "evaluate_overview.png")
    page.locator("#volumes").screenshot(path=folder / "evaluate_volumes.png")
    case = page.locator("#pictures .figure:has([data-viewer])").first
    case.scroll_into_view_if_needed()
    case.locator("img").first.wait_for()
    case.screenshot(path=folder / "evaluate_case.png")
    case.locator("[data-viewer]").click()
    page.locator("#viewer-canvas[data-ready]").wait_for(timeout=TIMEOUT_MS)
    page.wait_for_timeout(1000)
    page.locator("#viewer").screenshot(path=folder / "evaluate_viewer.png")
    for name in ("overview", "volumes", "case", "viewer"):
        print(folder / f"evaluate_{name}.png")


def score_spoiled_demo(folder: Path) -> Path:
    """Make the dataset, predictions with errors, and score them.

    Args:
        folder: Gets `demo`, `predictions` and `scores`.

    Returns:
        The report.
    """
    data, predictions = folder / "demo", folder / "predictions"
    make_dataset(data, n_cases=24, seed=0)
    shutil.rmtree(predictions, ignore_errors=True)
    predictions.mkdir()
    rng = np.random.default_rng(0)
    for number, file in enumerate(sorted((data / "labelsTr").glob("*.nii.gz"))):
        # One case that nobody predicted.
        if number != 5:
            label, affine = _read(file)
            _write(predictions / file.name, spoiled(label, number, rng), affine)
    config = EvaluateConfig(regions={"liver with tumor": ("liver", "tumor")}, multi=("tumor",))
    source = input_from_folders(predictions, data / "labelsTr", out_root=folder)
    evaluate(config, source, folder / "scores", NullTracker())
    return folder / "scores" / "report.html"


def spoiled(label: Label, number: int, rng: np.random.Generator) -> Label:
    """A label as a model might predict it: moved by a voxel, and now and then really wrong."""
    prediction = np.roll(label, 1, axis=int(rng.integers(3)))
    if number % 6 == 1:
        prediction[prediction == 3] = 1
    if number % 8 == 3:
        i, j, k = (slice(n // 4, n // 4 + 4) for n in label.shape)
        prediction[i, j, k] = 3
    if number == 10:
        prediction[: label.shape[0] // 2] = 0
    return prediction


def audit_faulty_demo(folder: Path) -> Path:
    """Make the dataset, plant the faults, ingest and audit.

    Args:
        folder: Gets `demo_with_faults` and `work`.

    Returns:
        The report.
    """
    data = folder / "demo_with_faults"
    if not data.exists():
        make_dataset(data, n_cases=24, seed=0)
        plant(data)
    workspace = Workspace(folder / "work")
    ingest(IngestConfig(), TaskConfig(), data, workspace, NullTracker())
    audit(AuditConfig(max_pictures=24), workspace, NullTracker())
    return workspace.stage_dir("audit") / "report.html"


# --- faults ---------------------------------------------------------------------------------------


def plant(data: Path) -> None:
    """Damage a few cases, each in one way."""
    for number, fault in FAULTS.items():
        file = data / "labelsTr" / f"demo_{number:03d}.nii.gz"
        label, affine = _read(file)
        _write(file, *fault(label, affine))
    images = data / "imagesTr"
    shutil.copy(images / "demo_011.nii.gz", images / "demo_012.nii.gz")
    shutil.copy(data / "labelsTr" / "demo_011.nii.gz", data / "labelsTr" / "demo_012.nii.gz")
    broken = images / "demo_020.nii.gz"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])


def undeclared_value(label: Label, affine: Affine) -> tuple[Label, Affine]:
    """A slip of the brush: a small block of value 9 beside the liver."""
    i, j, k = np.argwhere(label == 1)[0]
    label[i : i + 3, j : j + 3, k : k + 2] = 9
    return label, affine


def shifted_header(label: Label, affine: Affine) -> tuple[Label, Affine]:
    """The label was saved with another origin: 24 mm off."""
    affine[:3, 3] += (24.0, 0.0, 0.0)
    return label, affine


def mirrored(label: Label, affine: Affine) -> tuple[Label, Affine]:
    """The array was flipped, the header was not."""
    return label[::-1].copy(), affine


def islands(label: Label, affine: Affine) -> tuple[Label, Affine]:
    """Specks far from the organ, as a threshold leaves them."""
    rng = np.random.default_rng(0)
    for place in rng.integers(2, np.array(label.shape) - 2, (25, 3)):
        label[tuple(place)] = 1
    return label, affine


def missing_slices(label: Label, affine: Affine) -> tuple[Label, Affine]:
    """Two slices that nobody painted."""
    axis = int(np.argmax(np.abs(affine[2, :3])))
    places = np.argwhere(label == 1)[:, axis]
    middle = int(np.median(places))
    index: list[slice] = [slice(None)] * 3
    index[axis] = slice(middle, middle + 2)
    label[tuple(index)] = 0
    return label, affine


def times_127(label: Label, affine: Affine) -> tuple[Label, Affine]:
    """A picture program stretched the values: 0, 127, 254."""
    return np.where(label == 1, 127, np.where(label == 2, 254, 0)).astype(np.uint8), affine


def crumb(label: Label, affine: Affine) -> tuple[Label, Affine]:
    """Only a crumb of the liver is left."""
    liver = np.argwhere(label == 1)
    keep = np.abs(liver - np.median(liver, axis=0)).max(axis=1) < 5
    label[tuple(liver[~keep].T)] = 0
    return label, affine


FAULTS: dict[int, Callable[[Label, Affine], tuple[Label, Affine]]] = {
    3: undeclared_value,
    5: shifted_header,
    7: mirrored,
    9: islands,
    14: missing_slices,
    16: times_127,
    18: crumb,
}


def _read(file: Path) -> tuple[Label, Affine]:
    image = nib.load(file)
    return np.asarray(image.dataobj).astype(np.uint8), np.array(image.affine)


def _write(file: Path, label: Label, affine: Affine) -> None:
    image = nib.Nifti1Image(label, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, file)


if __name__ == "__main__":
    main()
