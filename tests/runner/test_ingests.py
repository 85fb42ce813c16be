"""The ingest command: parts are gathered, the store is verified, contradictions are refused."""

import json

import phantoms
import pytest


@pytest.fixture
def data(tmp_path):
    return phantoms.write_dataset(tmp_path / "data", 5, shape=(16, 16, 16))


@pytest.fixture
def run(voxline):
    """A command without tracking, which takes most of the time and is not the matter here."""
    return lambda *args: voxline(*args, "--set", "tracking.enabled=false")


def stored(work):
    return {p.name: p.read_bytes() for p in (work / "ingest" / "store").iterdir()}


def test_parts_gathered_are_what_one_run_makes(run, data, tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert run("ingest", "--data", data, "--work", whole)[0] == 0
    for part in ("1/2", "2/2"):
        status, out, err = run("ingest", "--data", data, "--work", parted, "--part", part)
        assert (status, out) == (0, "")
        assert "run ingest without --part" in err
        assert not (parted / "ingest" / "dataset.json").exists()
    lines = [
        json.loads(line)
        for file in sorted(parted.glob("ingest/parts/*/cases.jsonl"))
        for line in file.read_text().splitlines()
    ]
    assert [line["case"] for line in lines] == [f"case_{n:03}" for n in (0, 2, 4, 1, 3)]
    status, _, err = run("ingest", "--data", data, "--work", parted)
    assert status == 0
    assert "gathered what 2 parts have stored" in err
    assert "0 cases read, 5 kept" in err
    assert stored(parted) == stored(whole)
    manifests = [(work / "ingest" / "dataset.json").read_text() for work in (whole, parted)]
    assert manifests[0] == manifests[1]


def test_a_bad_case_counts_in_the_status_of_its_part(run, data, tmp_path):
    (data / "labelsTr" / "case_001.nii.gz").write_text("no volume")
    command = ("ingest", "--data", data, "--work", tmp_path / "w", "--part")
    assert run(*command, "1/2")[0] == 0
    status, _, err = run(*command, "2/2")
    assert status == 2
    assert "case_001" in err


def test_verify_reports_and_the_next_ingest_mends(run, data, tmp_path):
    work = tmp_path / "w"
    run("ingest", "--data", data, "--work", work)
    assert run("ingest", "--work", work, "--verify")[0] == 0
    array = work / "ingest" / "store" / "case_003.image.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"\x55")
    status, _, err = run("ingest", "--work", work, "--verify")
    assert status == 2
    assert "case case_003 is damaged" in err
    assert "1 cases read, 4 kept" in run("ingest", "--data", data, "--work", work)[2]
    assert run("ingest", "--work", work, "--verify")[0] == 0


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("ingest", "--part", "3/2"), "no part of the cases"),
        (("ingest", "--part", "1/2", "--verify"), "verified as a whole"),
        (("audit", "--set", "parallel.part=1/2"), "needs all cases"),
        (("ingest", "--backend", "dask"), "--scheduler"),
        (("ingest", "--scheduler", "tcp://h:1"), "--backend dask"),
        (("ingest", "--layout", "decathon"), "decathlon"),
    ],
)
def test_what_contradicts_itself_is_refused(run, data, tmp_path, command, what):
    status, _, err = run(*command, "--data", data, "--work", tmp_path / "w")
    assert status == 3
    assert what in err


def test_each_case_leaves_a_line(run, data, tmp_path):
    run("ingest", "--data", data, "--work", tmp_path / "w")
    lines = (tmp_path / "w" / "ingest" / "cases.jsonl").read_text().splitlines()
    assert len(lines) == 5
    assert all(json.loads(line)["status"] == "done" for line in lines)


def test_a_part_leaves_mlflow_to_the_run_that_gathers(voxline, data, tmp_path):
    assert voxline("ingest", "--data", data, "--work", tmp_path / "w", "--part", "1/2")[0] == 0
    assert not (tmp_path / "w" / "tracking").exists()
    assert list(tmp_path.rglob("mlflow.db")) == []
