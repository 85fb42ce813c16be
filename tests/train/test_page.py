"""The page of a training, while it runs and when it is done."""

import html
import re

import pytest
import torch
from browsing import CHROMIUM, opened, started_browser
from workfolders import audited, quick, sharing

from pipeline.artifacts import ModelCard, read_artifact
from pipeline.core.errors import InterruptedByUserError, TrainingError
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.train.page import PAGE, _class_lines, write_page
from pipeline.train.select import select_training
from pipeline.train.stage import train


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("page"))


@pytest.fixture
def workspace(pristine, tmp_path) -> Workspace:
    return sharing(pristine, tmp_path / "work")


@pytest.fixture(scope="module")
def finished(pristine, tmp_path_factory) -> Workspace:
    """A training that is done, to be looked at only."""
    own = sharing(pristine, tmp_path_factory.mktemp("finished") / "work")
    run(own)
    return own


def run(workspace, **changes):
    return train(select_training(quick(**changes), workspace), workspace, NullTracker())


def text_of(workspace, fold="0"):
    page = (workspace.fold_dir(fold) / "report.html").read_text(encoding="utf-8")
    return page, html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def test_a_finished_training_shows_scores_curves_pictures_and_plan(finished):
    page, text = text_of(finished)
    card = read_artifact(finished.fold_dir("0") / "model_card.json", ModelCard, made_by="train")
    assert f"mean Dice {card.validation.mean_foreground_dice:.3f}" in text
    for name in card.validation.classes:
        assert name in text
    for reason in card.info.plan.reasons:
        assert reason in text
    for title in ("Dice on whole validation volumes", "Loss, mean of each round"):
        assert title in text
    # Two cases, drawn before the first step and after each of two rounds.
    assert page.count("data:image/webp") == 6
    assert 'http-equiv="refresh"' not in page


def test_a_running_training_shows_how_far_it_is(workspace, monkeypatch):
    pages = []

    def look(parts, state):
        write_page(parts, state)
        pages.append((parts.folder / PAGE).read_text(encoding="utf-8"))

    monkeypatch.setattr("pipeline.train.rounds.write_page", look)
    run(workspace)
    first, second = pages
    assert "round 1 of 2" in first
    assert "round 2 of 2" in second
    for page in pages:
        assert 'http-equiv="refresh"' in page
        assert "Dice so far, pooled" in page
        # Only the newest picture of each case: shrinking them takes time that training has not.
        assert page.count("data:image/png") == 2


def test_a_stopped_training_says_why(workspace, monkeypatch):
    def stop(*_):
        raise InterruptedByUserError("stopped during the final validation")

    monkeypatch.setattr("pipeline.train.stage._final_scores", stop)
    with pytest.raises(InterruptedByUserError):
        run(workspace)
    page, text = text_of(workspace)
    assert "stopped during the final validation" in text
    assert 'http-equiv="refresh"' not in page


def test_memory_that_runs_out_in_a_validation_is_named(workspace, monkeypatch):
    def fill(*_):
        raise torch.OutOfMemoryError("tried to allocate 9 GB")

    monkeypatch.setattr("pipeline.train.stage._final_scores", fill)
    with pytest.raises(TrainingError, match="outside of a training step: tried to allocate 9 GB"):
        run(workspace)


def test_a_page_that_cannot_be_drawn_ends_no_training(workspace, caplog):
    run(workspace, steps=4)
    folder = workspace.fold_dir("0")
    (folder / "model_card.json").unlink()
    for picture in (folder / "pictures").iterdir():
        picture.write_bytes(b"")
    run(workspace, steps=4)
    assert (folder / "model_card.json").is_file()
    assert "no new page of this training" in caplog.text


def test_more_classes_than_colors_are_told_apart():
    assert len(set(_class_lines(12))) == 12
    assert len(set(_class_lines(7))) == 7


def test_without_validation_cases_nothing_is_claimed(workspace):
    run(workspace, fold="all")
    _, text = text_of(workspace, "all")
    assert "nothing here says how good the model is" in text
    assert "Dice on whole validation volumes" not in text
    assert "mean Dice" not in text


def test_warnings_of_the_watch_are_on_the_page(workspace):
    misses_only = {"tversky_alpha": 0.0, "tversky_beta": 1.0, "include_background": False}
    run(
        workspace,
        steps=8,
        n_validations=4,
        ema_decay=0.0,
        loss={"kind": "tversky", **misses_only},
        optimizer={"learning_rate": 0.1, "warmup_fraction": 0.0},
    )
    _, text = text_of(workspace)
    assert "P06" in text
    assert "What to do:" in text
    assert "warning" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no browser on this machine")
def test_a_browser_draws_the_lines_and_sorts_the_rounds(finished):
    with (
        started_browser() as browser,
        opened(browser, finished.fold_dir("0") / "report.html") as page,
    ):
        assert page.locator(".curves").count() == 4
        for chart in page.locator(".curves .plot").all():
            box, line = chart.bounding_box(), chart.locator("path").first.bounding_box()
            assert line["width"] > 0.3 * box["width"]
            assert box["y"] - 2 <= line["y"] <= box["y"] + box["height"] + 2
        steps = page.locator("#round-table tbody td:first-child")
        assert steps.all_inner_texts() == ["3", "6"]
        for _ in range(2):
            page.locator("#round-table thead button").first.click()
        assert steps.all_inner_texts() == ["6", "3"]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
