"""Twenty kills at random moments of one training leave the weights of an undisturbed one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from workfolders import audited

from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_state

ROOT = Path(__file__).resolve().parents[2]
N_KILLS = 20
N_STEPS = 400
# The last kill must still hit a training under way, between two checkpoints at the latest.
LAST_KILL_STEP = 300
SETTINGS = {
    "steps": N_STEPS,
    "n_validations": 20,
    "device": "cpu",
    "patch_size": "[16,16,16]",
    "batch_size": 2,
    "network.base_features": 4,
    "network.max_features": 8,
    "checkpoint_minutes": 0.005,
}


def command_for(workspace: Workspace) -> list[str]:
    command = [sys.executable, "-m", "pipeline", "train", "--work", str(workspace.root)]
    command += ["--set", "tracking.enabled=false"]
    for key, value in SETTINGS.items():
        command += ["--set", f"train.{key}={value}"]
    return command


def weights(workspace: Workspace) -> dict[str, torch.Tensor]:
    state = load_state(workspace.fold_dir("0") / "last.pt", torch.device("cpu"))
    learner, best = state["learner"], workspace.fold_dir("0") / "best.pt"
    model = torch.load(best, weights_only=True)["weights"]
    tensors = {f"network.{k}": v for k, v in learner["network"].items()}
    tensors |= {f"averaged.{k}": v for k, v in learner["averaged"].items()}
    return tensors | {f"best.{k}": v for k, v in model.items()}


def step_of(last_file: Path) -> int:
    return int(json.loads(load_state(last_file, torch.device("cpu"))["loop"])["step"])


def kill_once(command: list[str], last_file: Path, step: int, wait_s: float) -> bool:
    """Start the training, let it go on a while after it has saved a step, kill it.

    Returns:
        Whether it was killed; not if it ended before.
    """
    before = last_file.stat().st_mtime_ns if last_file.is_file() else 0
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    while process.poll() is None:
        now = last_file.stat().st_mtime_ns if last_file.is_file() else before
        if now != before and step_of(last_file) >= step:
            break
        time.sleep(0.02)
    time.sleep(wait_s)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    killed, calm = audited(tmp_path / "killed", 4), audited(tmp_path / "calm", 4)
    subprocess.run(command_for(calm), check=True, capture_output=True, cwd=ROOT)
    rng = np.random.default_rng(5)
    last_file = killed.fold_dir("0") / "last.pt"
    for step in sorted(rng.integers(0, LAST_KILL_STEP, N_KILLS)):
        wait_s = float(rng.uniform(0, 0.3))
        assert kill_once(command_for(killed), last_file, int(step), wait_s)
    subprocess.run(command_for(killed), check=True, capture_output=True, cwd=ROOT)
    expected, found = weights(calm), weights(killed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
