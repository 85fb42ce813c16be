import pytest

from pipeline.core.errors import MissingInputError
from pipeline.tracking.lookup import fetch_file, is_run_id, run_id_of, run_links
from pipeline.tracking.session import find_target


def test_ids_are_told_from_folders():
    assert is_run_id("0123456789abcdef" * 2)
    assert not is_run_id("runs/hippo")
    assert not is_run_id("0123456789ABCDEF" * 2)
    # As `voxline runs` prints them.
    assert is_run_id("0123456f")
    assert not is_run_id("0123456")


def test_scores_of_a_run_are_fetched_and_linked(place, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("case_id\n")
    with place.open("evaluate", run_name="first run") as tracker:
        tracker.log_file(scores, headline=True)
    run = place.parent()
    work = place.workspace.root
    assert run_id_of(work, None) == run.info.run_id
    assert run_id_of(work, "unknown key") is None
    assert run_id_of(tmp_path, None) is None

    target = find_target(place.config, place.workspace)
    fetched = fetch_file(target, run.info.run_id, "scores.csv", tmp_path / "here")
    assert fetched.file.read_text() == "case_id\n"
    assert fetched.file.parent.name == f"first_run-{run.info.run_id[:8]}"
    short = fetch_file(target, run.info.run_id[:8], "scores.csv", tmp_path / "here")
    assert short == fetched
    links = run_links(target, {"a [b]": run.info.run_id, "gone": "0" * 32})
    experiment = run.info.experiment_id
    assert links == {"a [b]": f"[a (b)](#/experiments/{experiment}/runs/{run.info.run_id})"}
    assert run_links(target, {}) == {}

    with pytest.raises(MissingInputError, match=r"it has no other\.csv"):
        fetch_file(target, run.info.run_id, "other.csv", tmp_path)
    with pytest.raises(MissingInputError, match="cannot be read"):
        fetch_file(target, "0" * 32, "scores.csv", tmp_path)
