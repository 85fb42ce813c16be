"""Model files round-trip, never execute code, and say what is wrong with them."""

import pickle

import pytest
import torch
from models_builders import model_info

from pipeline.core.errors import CheckpointError
from pipeline.models.checkpoint import load_model, load_state, save_model, save_state
from pipeline.models.networks import build_network

CPU = torch.device("cpu")


def test_a_model_comes_back_as_it_was(tmp_path):
    info = model_info()
    network = build_network(info.plan.network)
    save_model(tmp_path / "m.pt", network.state_dict(), info)
    model = load_model(tmp_path / "m.pt", CPU)
    assert model.info == info
    assert not model.network.training
    for name, weight in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], weight)
    assert len(model.digest) == 16


def test_a_state_comes_back_as_it_was(tmp_path):
    save_state(tmp_path / "s.pt", {"x": torch.arange(3), "n": 4, "text": "a"})
    state = load_state(tmp_path / "s.pt", CPU)
    assert torch.equal(state["x"], torch.arange(3))
    assert state["n"] == 4


class Bomb:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('exploded').touch()",))


@pytest.mark.parametrize(
    "content",
    [b"", b"this is text, not weights\n", b"PK\x03\x04 half a zip", pickle.dumps({"format": 1})],
    ids=["empty", "text", "broken zip", "pickle"],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_words(tmp_path, content):
    file = tmp_path / "x.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as raised:
        load_model(file, CPU)
    assert str(file) in raised.value.where
    assert raised.value.fix


def test_code_in_a_checkpoint_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "voxline-model-1", "weights": Bomb()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "x.pt", CPU)
    assert not (tmp_path / "exploded").exists()


def test_truncated_and_foreign_files_are_refused(tmp_path):
    info = model_info()
    weights = build_network(info.plan.network).state_dict()
    save_model(tmp_path / "m.pt", weights, info)
    whole = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(tmp_path / "half.pt", CPU)
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a voxline-model-1 file"):
        load_model(tmp_path / "other.pt", CPU)
    with pytest.raises(CheckpointError, match="not a voxline-state-1 file"):
        load_state(tmp_path / "m.pt", CPU)
    with pytest.raises(CheckpointError, match="cannot read"):
        load_model(tmp_path / "missing.pt", CPU)


def test_weights_of_another_network_are_refused(tmp_path):
    info = model_info()
    save_model(tmp_path / "m.pt", {"wrong": torch.zeros(3)}, info)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(tmp_path / "m.pt", CPU)
