"""The server is lean and leaves nothing behind; its link shows the runs in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.core.errors import MissingInputError, VoxlineError
from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.location import local_uri
from pipeline.tracking.session import open_tracker
from pipeline.tracking.store import open_store
from pipeline.tracking.ui import find_store, running_server, serve_ui
from pipeline.tracking.view import runs_link

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def _record_two_runs(root: Path) -> None:
    for name, dice in (("dicece-lr3e-3", 0.91), ("focal-lr1e-3", 0.84)):
        with open_tracker(
            TrackingConfig(),
            Workspace(root / "work"),
            stage="train",
            run_name=name,
            new_parent=True,
        ) as tracker:
            tracker.log_params({"loss": name.partition("-")[0]})
            for epoch in range(5):
                tracker.log_metrics({"val/dice": dice * epoch / 4}, step=epoch)
            tracker.log_metrics({"test/dice_mean": dice})


@pytest.fixture(scope="module")
def recorded(empty_root) -> Path:
    folder = empty_root("recorded")
    _record_two_runs(folder)
    return folder


def _experiment_id(root: Path) -> str:
    return open_store(local_uri(root), "voxline", None).experiment_id


def test_the_store_is_found_from_the_work_folder_and_from_its_parent(tmp_path):
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "work").mkdir()
    for folder in (tmp_path, tmp_path / "work"):
        assert find_store(folder, TrackingConfig()) == local_uri(tmp_path)


def test_no_runs_is_a_clear_message(tmp_path):
    with pytest.raises(MissingInputError) as caught:
        serve_ui(tmp_path / "work", 0)
    assert "no runs have been recorded yet" in str(caught.value)
    assert "voxline train" in caught.value.fix


def test_a_server_that_cannot_start_says_why(tmp_path):
    with (
        pytest.raises(VoxlineError, match="does not start"),
        running_server("nonsense://store", tmp_path, 0),
    ):
        pass


def test_the_command_prints_a_link_and_ctrl_c_stops_everything(recorded):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = (
            "import logging, sys; from pathlib import Path; logging.basicConfig();"
            "from pipeline.tracking.ui import serve_ui;"
            f"sys.exit(serve_ui(Path({str(recorded / 'work')!r}), {port}))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        link = process.stdout.readline().strip()
        address = link.partition("/#/")[0]
        assert f":{port}" not in address
        assert link == runs_link(address, _experiment_id(recorded))
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 10).close()
        family = psutil.Process(process.pid).children(recursive=True)
        assert 1 <= len(family) <= 4  # MLflow's own default is 15
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"port {port} is in use" in messages
    assert "Traceback" not in messages
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser on this machine")
def test_the_link_shows_the_runs_with_their_columns(recorded, tmp_path):
    from playwright.sync_api import sync_playwright

    os.environ.setdefault("HOME", str(tmp_path))
    with running_server(local_uri(recorded), recorded, 0) as server, sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1800, "height": 900})
        page.goto(runs_link(server.address, _experiment_id(recorded)))
        page.get_by_text("dicece-lr3e-3").first.wait_for(timeout=90_000)
        text = page.inner_text("body")
        headers = page.eval_on_selector_all(
            ".ag-header-cell", "cells => cells.map(cell => cell.getAttribute('col-id'))"
        )
        page.goto(f"{runs_link(server.address, _experiment_id(recorded))}&compareRunsMode=CHART")
        page.locator(".js-plotly-plot").first.wait_for(timeout=90_000)
        charts = page.inner_text("body")
        browser.close()
    assert headers.index("params.`loss`") < headers.index("metrics.`test/dice_mean`")
    assert charts.index("val/dice") < charts.index("test/dice_mean")
    assert "focal-lr1e-3" in text
    assert "0.91" in text
    assert "0.84" in text
    assert "does not exist" not in text
