"""What stages say arrives, once, and what MLflow cannot take is dealt with."""

import contextlib
import json
from pathlib import Path

import numpy as np
from PIL import Image


def _picture(file):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file)
    return file


def _train_until(place, n_epochs):
    with contextlib.suppress(KeyboardInterrupt), place.open() as tracker:
        for epoch in range(n_epochs):
            tracker.log_metrics({"train/loss": 1.0 / (epoch + 1)}, step=epoch)
        raise KeyboardInterrupt


def test_numbers_that_are_not_finite_are_left_out(place):
    values = {"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": None, "e": 1}
    with place.open() as tracker:
        tracker.log_metrics(values)
        tracker.log_metrics(values, headline=False)
    assert place.parent().data.metrics == {"e": 1.0}
    assert set(place.children()[0].data.metrics) - {"e"} == {
        "cost/wall_s",
        "cost/cpu_s",
        "cost/peak_memory_mb",
    }


def test_a_resumed_stage_repeats_no_step(place):
    _train_until(place, 6)
    with place.open() as tracker:  # the checkpoint was of epoch 3
        for epoch in range(4, 9):
            tracker.log_metrics({"train/loss": 1.0 / (epoch + 1)}, step=epoch)
    run = place.parent()
    points = place.points(run.info.run_id, "train/loss")
    assert points == [(epoch, 1.0 / (epoch + 1)) for epoch in range(9)]
    assert run.info.status == "FINISHED"
    assert [c.info.status for c in place.children()] == ["KILLED", "FINISHED"]


def test_a_result_is_replaced_by_a_newer_one_and_not_repeated(place):
    for dice in (0.7, 0.7, 0.8):
        with place.open("evaluate") as tracker:
            tracker.log_metrics({"test/dice": dice})
    run = place.parent()
    assert run.data.metrics["test/dice"] == 0.8
    assert len(place.points(run.info.run_id, "test/dice")) == 2
    assert json.loads(run.data.tags["voxline.headline"]) == ["test/dice"]


def test_names_are_made_acceptable(place):
    with place.open() as tracker:
        tracker.log_metrics({"nsd@2mm (left)": 0.5})
        tracker.log_params({"a[0]": "x"})
        tracker.set_tags({"what(ever)": "y"})
    run = place.parent()
    assert run.data.metrics == {"nsd_2mm _left_": 0.5}
    assert run.data.params == {"a_0_": "x"}
    assert run.data.tags["what_ever_"] == "y"


def test_a_parameter_stays_what_it_was(place, caplog):
    with place.open() as tracker:
        tracker.log_params({"loss": "dice", "seed": 1, "amp": True})
    with place.open() as tracker:
        tracker.log_params({"loss": "focal", "seed": 1, "amp": True, "late": 0.5})
    assert place.parent().data.params == {"loss": "dice", "seed": "1", "amp": "True", "late": "0.5"}
    assert "parameter loss stays 'dice'" in caplog.text
    assert "seed" not in caplog.text


def test_a_long_parameter_becomes_a_file(place, tmp_path):
    text = "x" * 7000
    with place.open() as tracker:
        tracker.log_params({"patch/list": text})
    run = place.parent()
    reference = run.data.params["patch/list"]
    path = reference.removeprefix("too long, see ")
    local = place.client.download_artifacts(run.info.run_id, path, str(tmp_path))
    assert Path(local).read_text() == text


def test_headline_files_lie_at_the_root_of_the_parent(place, tmp_path):
    for name in ("report.html", "log.txt"):
        (tmp_path / name).write_text(name)
    with place.open() as tracker:
        tracker.log_file(tmp_path / "report.html", headline=True)
        tracker.log_file(tmp_path / "log.txt", folder="logs")
        tracker.log_file(tmp_path / "missing.txt", headline=True)
    parent, child = place.parent().info.run_id, place.children()[0].info.run_id
    assert [f.path for f in place.client.list_artifacts(parent)] == ["report.html"]
    assert [f.path for f in place.client.list_artifacts(child, "logs")] == ["logs/log.txt"]


def test_pictures_make_a_series_from_step_0(place, tmp_path, caplog):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with place.open() as tracker:
        for step in (0, 5):
            tracker.log_picture(_picture(tmp_path / "overlay.png"), key="val/case (1)", step=step)
            (tmp_path / "overlay.png").unlink()  # stages may write over it at once
        tracker.log_picture(tmp_path / "broken.png", key="val/case", step=0)
        tracker.log_picture(tmp_path / "nowhere.png", key="val/case", step=0)
    run_id = place.parent().info.run_id
    names = [f.path for f in place.client.list_artifacts(run_id, "images")]
    steps = sorted(n.split("+step+")[1].split("+")[0] for n in names if n.endswith(".png"))
    assert steps == ["0", "5"]
    assert caplog.text.count("is not recorded") == 2
    assert list((place.workspace.root / "tracking" / "pictures").iterdir()) == []


def test_the_dataset_is_on_parent_and_child_once(place):
    for stage in ("ingest", "train"):
        with place.open(stage) as tracker:
            tracker.log_dataset(name="Hippocampus", digest="0123456789" * 5, context="train")
    for run in place.runs():
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, len(used.dataset.digest)) == ("Hippocampus", 36)
        assert used.tags[0].value == "train"


def test_description_is_what_the_ui_shows(place):
    with place.open() as tracker:
        tracker.set_tags({"description": "**Dice 0.88** on 50 cases", "long": "x" * 9000})
    tags = place.parent().data.tags
    assert tags["mlflow.note.content"].startswith("**Dice 0.88** on 50 cases\n\n---\nStages: ")
    assert tags["long"] == "x" * 8000


def test_many_numbers_arrive_in_one_call(place):
    names = [f"case/{n}" for n in range(2500)]
    with place.open() as tracker:
        tracker.log_metrics(dict.fromkeys(names, 1.0), headline=False)
        tracker.log_params({f"knob{n}": n for n in range(250)})
    assert len(place.children()[0].data.metrics) == 2503
    assert len(place.parent().data.params) == 250


def test_nothing_is_left_behind_when_all_is_sent(place):
    with place.open() as tracker:
        tracker.log_metrics({"a": 1.0}, step=0)
    folder = place.workspace.root / "tracking"
    assert [p.name for p in folder.glob("spools*/*")] == []


def test_a_full_disk_costs_one_warning_and_no_exception(place, caplog):
    with place.open() as tracker:
        # The spool's folder turns into a file: the same OSError family as a full disk.
        folder = tracker._target.spools
        moved = folder.with_name("moved")
        folder.rename(moved)
        folder.write_text("")
        for step in range(3):
            tracker.log_metrics({"a": 1.0}, step=step)
        folder.unlink()
        moved.rename(folder)
    assert caplog.text.count("results cannot be kept") == 1
    assert place.parent().info.status == "FINISHED"


def test_tables_lie_on_the_parent_and_are_listed_for_the_ui(place):
    with place.open(stage="train") as tracker:
        tracker.log_table("fold cases", ["case_id", "dice"], [["a", 0.5], ["b", None]])
    with place.open(stage="evaluate") as tracker:
        tracker.log_table("test cases", ["case_id"], [["c"]])
    run = place.parent()
    listed = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert [item["path"] for item in listed] == ["fold cases.json", "test cases.json"]
    file = place.client.download_artifacts(run.info.run_id, "fold cases.json")
    assert json.loads(Path(file).read_text()) == {
        "columns": ["case_id", "dice"],
        "data": [["a", 0.5], ["b", None]],
    }


def test_a_table_that_waits_is_not_replaced_by_that_of_the_next_training(place):
    files = []
    for name in ("fold-0", "fold-1"):
        with place.open(run_name=name, new_parent=True) as tracker:
            tracker.log_table("cases", ["case_id"], [[name]])
        run = next(r for r in place.parents() if r.info.run_name == name)
        files.append(place.client.download_artifacts(run.info.run_id, "cases.json"))
    waiting = sorted((place.workspace.root / "tracking" / "tables").rglob("cases.json"))
    assert len(waiting) == len(files) == 2
    assert {json.loads(f.read_text())["data"][0][0] for f in waiting} == {"fold-0", "fold-1"}
