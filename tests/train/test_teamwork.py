"""Many processes train what one trains: same weights, one run, one set of files."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from phantoms import write_dataset

from pipeline.models.checkpoint import load_state

TORCHRUN = Path(sys.executable).with_name("torchrun")
LONGEST_S = 150
SMALL = (
    *("train.device=cpu", "train.patch_size=[16,16,16]", "train.batch_size=2"),
    *("train.network.base_features=4", "train.network.max_features=8"),
    *("train.n_validations=2", "audit.max_pictures=0"),
)
# Adam would make a step of full length of a gradient that is nothing but rounding, as that of a
# weight before a normalization is.
STEPS = (
    *("train.steps=6", "train.optimizer.kind=sgd", "train.optimizer.learning_rate=0.01"),
    # bfloat16, which some CPUs compute with, rounds what each process sums.
    "train.amp=false",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TORCHRUN.is_file(), reason="torch comes without torchrun here"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "phantoms", 6, 0)


def command(
    n_ranks: int, data: Path, work: Path, settings: tuple[str, ...], program: tuple[str, ...]
) -> list[str]:
    start = [sys.executable, *program]
    if n_ranks > 1:
        start = [str(TORCHRUN), "--standalone", f"--nproc-per-node={n_ranks}", *program]
    chosen = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return [*start, "train", "--data", str(data), "--work", str(work), *chosen]


def begin(
    n_ranks: int,
    data: Path,
    work: Path,
    settings: tuple[str, ...],
    program: tuple[str, ...] = ("-m", "pipeline"),
) -> subprocess.Popen[str]:
    work.parent.mkdir(parents=True, exist_ok=True)
    # The phantoms run in the folder of the test; the package is found by its path.
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        command(n_ranks, data, work, settings, program),
        cwd=work.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a training; nothing that hangs outlives the test."""
    try:
        out, err = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"still running after {LONGEST_S} s\n{out}\n{err}")
    return process.returncode, err


def train(n_ranks: int, data: Path, work: Path, *settings: str) -> tuple[int, str]:
    return finish(begin(n_ranks, data, work, settings))


def weights(work: Path) -> dict[str, torch.Tensor]:
    learner = load_state(work / "train" / "fold_0" / "last.pt", torch.device("cpu"))["learner"]
    return {**learner["network"], **{f"averaged.{k}": v for k, v in learner["averaged"].items()}}


def counted_patches(work: Path) -> tuple[int, list[int]]:
    file = work / "train" / "fold_0" / "last.pt"
    guard = json.loads(load_state(file, torch.device("cpu"))["loop"])["guard"]
    return guard["n_patches"], guard["n_patches_of"]


def assert_close(one: Path, two: Path) -> None:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-5, rtol=1e-4)


def history(work: Path) -> list[dict[str, str]]:
    text = (work / "train" / "fold_0" / "history.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def rank_of(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    """The process of a rank among those that torchrun has started."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise LookupError(rank)


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    end_s = time.monotonic() + LONGEST_S
    while not file.is_file() and process.poll() is None and time.monotonic() < end_s:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("alone") / "work"
    status, said = train(1, data, work, *STEPS)
    assert status == 0, said
    return work


def test_two_processes_train_what_one_trains(data, alone, tmp_path):
    work = tmp_path / "work"
    status, said = train(2, data, work, *STEPS)
    assert status == 0, said
    assert_close(alone, work)
    for one, two in zip(history(alone), history(work), strict=True):
        for name in ("train/loss", "train/dice_loss", "train/gradient_norm", "val/dice_pooled"):
            assert float(two[name]) == pytest.approx(float(one[name]), abs=1e-4)
    # Patches with a class are counted wherever they were read.
    assert counted_patches(work) == counted_patches(alone)
    summaries = [w / "train" / "fold_0" / "validation" / "scores.csv" for w in (alone, work)]
    assert summaries[0].read_text().count("\n") == summaries[1].read_text().count("\n")
    # Said once, by the first process, and recorded in one run.
    assert said.count("weights; training on") == 1
    logs = (work / "train" / "run.log.jsonl").read_text(encoding="utf-8")
    assert logs.count("trained 6 steps") == 1


# Draws each next batch during a step, as is done where a GPU computes.
AHEAD = """
from pipeline.cli import main
from pipeline.train.data import BatchSource

begin = BatchSource.__init__

def draws_ahead(self, *args):
    begin(self, *args)
    self.draws_ahead = True

BatchSource.__init__ = draws_ahead
main()
"""


def test_two_processes_that_draw_ahead_train_the_same(data, alone, tmp_path):
    script = tmp_path / "ahead.py"
    script.write_text(AHEAD, encoding="utf-8")
    work = tmp_path / "work"
    status, said = finish(begin(2, data, work, STEPS, (str(script),)))
    assert status == 0, said
    assert_close(alone, work)


def test_a_batch_that_cannot_be_shared_out_is_refused_at_once(data, tmp_path):
    status, said = train(2, data, tmp_path / "work", *STEPS, "train.batch_size=3")
    assert status != 0
    assert "a batch of 3 patches cannot be shared out evenly to 2 processes" in said
    assert "--set train.batch_size=4" in said
    assert not list((tmp_path / "work" / "train").glob("fold_0/*.pt"))


def test_a_budget_is_kept_by_all(data, tmp_path):
    status, said = train(2, data, tmp_path / "work", "train.budget_minutes=0.05")
    assert status == 0, said
    assert (tmp_path / "work" / "train" / "fold_0" / "model_card.json").is_file()


def test_sigterm_saves_and_one_process_goes_on_where_two_stopped(data, tmp_path):
    work = tmp_path / "work"
    settings = ("train.steps=120", "train.n_validations=60", *STEPS[1:])
    process = begin(2, data, work, settings)
    wait_for(work / "train" / "fold_0" / "last.pt", process)
    process.terminate()
    status, said = finish(process)
    assert status != 0
    assert "everything is kept" in said, said
    state = load_state(work / "train" / "fold_0" / "last.pt", torch.device("cpu"))
    assert state["learner"]["n_updates"] < 120
    status, said = train(1, data, work, *settings)
    assert status == 0, said
    assert "resuming at step" in said
    assert history(work)[-1]["step"] == "120"


@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_hangs_when_a_process_is_killed_and_the_training_goes_on(data, tmp_path, rank):
    work = tmp_path / "work"
    settings = ("train.steps=120", "train.n_validations=60", *STEPS[1:])
    process = begin(2, data, work, settings)
    wait_for(work / "train" / "fold_0" / "last.pt", process)
    rank_of(process, rank).kill()
    status, said = finish(process)
    assert status != 0
    assert "another process of this training has ended" in said, said
    assert "the same command goes on from the last checkpoint" in said
    state = load_state(work / "train" / "fold_0" / "last.pt", torch.device("cpu"))
    assert state["learner"]["n_updates"] < 120
    status, said = train(2, data, work, *settings)
    assert status == 0, said
    assert "resuming at step" in said
    assert history(work)[-1]["step"] == "120"


# Breaks one process of a training: the one and the step are asked for, the rest is the real thing.
BROKEN = """
import os
import torch
from pipeline.cli import main
from pipeline.core.errors import DataError
from pipeline.train.learner import Learner

ERRORS = {"memory": torch.OutOfMemoryError("9 GB"), "data": DataError("odd", where="case 7")}
forward, n_calls = Learner._forward, 0

def broken(self, batch):
    global n_calls
    n_calls += 1
    if os.environ["RANK"] == os.environ["BROKEN_RANK"] and n_calls == 3:
        raise ERRORS[os.environ["BROKEN_BY"]]
    return forward(self, batch)

Learner._forward = broken
main()
"""


def train_broken(data: Path, work: Path, monkeypatch, rank: int, by: str, *settings: str):
    work.mkdir(parents=True)
    script = work.parent / "broken.py"
    script.write_text(BROKEN, encoding="utf-8")
    monkeypatch.setenv("BROKEN_RANK", str(rank))
    monkeypatch.setenv("BROKEN_BY", by)
    return finish(begin(2, data, work, settings, (str(script),)))


@pytest.mark.parametrize("rank", [0, 1])
def test_all_take_a_smaller_step_when_memory_runs_out_in_one(data, tmp_path, monkeypatch, rank):
    work = tmp_path / "work"
    settings = (*STEPS, "train.batch_size=8")
    status, said = train_broken(data, work, monkeypatch, rank, "memory", *settings)
    assert status == 0, said
    told = "batch 4, patch 16 x 16 x 16 from there on"
    assert told in said
    assert told in (work / "train" / "fold_0" / "model_card.json").read_text(encoding="utf-8")
    assert history(work)[-1]["step"] == "6"
    assert all(torch.isfinite(value).all() for value in weights(work).values())


def test_an_error_in_one_process_ends_all_and_is_named_by_all(data, tmp_path, monkeypatch):
    work = tmp_path / "work"
    status, said = train_broken(data, work, monkeypatch, 1, "data", *STEPS)
    assert status != 0
    assert "process 1 of this training failed: odd" in said, said
    # torchrun shows a traceback of its own.
    assert "a defect of Voxline" not in said
    logs = (work / "train" / "run.log.jsonl").read_text(encoding="utf-8")
    assert "process 1 of this training failed: odd" in logs
