"""Take the pictures of MLflow's UI that the documentation shows, from recorded runs.

    python scripts/screenshot_mlflow.py runs docs/images

The first argument is the folder that holds the work folders and mlflow.db. Three pictures are
written: the runs table, the charts of all runs, and the comparison of the two newest trainings.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Error, Page, sync_playwright

from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.location import database_file, prepare_environment
from pipeline.tracking.ui import find_store, running_server

TIMEOUT_MS = 120_000
# Telemetry banner, assistant and invitations: they are MLflow's, not about the runs.
CLOSE_BUTTONS = ("Hide banner", "Close", "Dismiss", "close", "Got it", "Not now", "Close panel")
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Serve the runs, open the pages one after the other, and save what they look like."""
    parser = argparse.ArgumentParser(description="Screenshots of MLflow's UI")
    parser.add_argument("root", type=Path, help="folder that holds mlflow.db")
    parser.add_argument("output", type=Path, help="folder for the pictures")
    parser.add_argument("--experiment", default="voxline")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--height", type=int, default=1500, help="of the charts, in pixels")
    options = parser.parse_args()

    prepare_environment()
    from pipeline.tracking.store import open_store  # imports MLflow
    from pipeline.tracking.view import parent_runs, refresh_view, runs_link

    root = options.root.resolve()
    uri = find_store(root, TrackingConfig())
    store = open_store(uri, options.experiment, None)
    refresh_view(store)
    runs = parent_runs(store)
    options.output.mkdir(parents=True, exist_ok=True)
    folder = (database_file(uri) or root / "mlflow.db").parent

    with running_server(uri, folder, 0) as server, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=options.chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1760, "height": 700}, device_scale_factor=1.5)
        link = runs_link(server.address, store.experiment_id)
        page.goto(link)
        page.get_by_text(runs[0].info.run_name).first.wait_for(timeout=TIMEOUT_MS)
        _save(page, options.output / "mlflow_runs.png")

        page.set_viewport_size({"width": 1760, "height": options.height})
        page.goto(f"{link}&compareRunsMode=CHART")
        page.locator(".js-plotly-plot").first.wait_for(timeout=TIMEOUT_MS)
        _save(page, options.output / "mlflow_charts.png")

        trainings = [run for run in runs if "loss" in run.data.params]
        if len(trainings) > 1:
            page.goto(_compare_link(server.address, store.experiment_id, trainings[:2]))
            page.get_by_text("Run details").first.wait_for(timeout=TIMEOUT_MS)
            _save(page, options.output / "mlflow_compare.png")
        browser.close()


def _compare_link(address: str, experiment_id: str, runs: Sequence[Any]) -> str:
    ids = quote(json.dumps([run.info.run_id for run in runs]))
    experiments = quote(json.dumps([experiment_id]))
    query = f"runs={ids}&experiments={experiments}&workflowType=machine_learning"
    return f"{address}/#/compare-runs?{query}"


def _save(page: Page, file: Path) -> None:
    page.wait_for_timeout(3000)
    for name in CLOSE_BUTTONS:
        for button in page.get_by_role("button", name=name, exact=True).all():
            try:
                button.click(timeout=1000)
            except Error:
                continue  # it went away with another
    page.wait_for_timeout(2000)
    page.screenshot(path=file)
    print(file)


if __name__ == "__main__":
    main()
