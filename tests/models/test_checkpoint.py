"""Model files round-trip, never execute code, and say what is wrong with them."""

import json
import pickle

import numpy as np
import pytest
import torch
from models_builders import model_info

from pipeline.core.errors import CheckpointError
from pipeline.models.checkpoint import (
    load_model,
    load_state,
    save_model,
    save_state,
    update_model,
)
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


def whole_model(file):
    info = model_info()
    save_model(file, build_network(info.plan.network).state_dict(), info, card="# A model")
    return file.read_bytes()


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    whole = whole_model(tmp_path / "m.pt")
    original = load_model(tmp_path / "m.pt", CPU)
    rng, fixes = np.random.default_rng(0), []
    for position in rng.choice(len(whole), 60, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "x.pt").write_bytes(damaged)
        try:
            model = load_model(tmp_path / "x.pt", CPU)
        except CheckpointError as error:
            fixes.append(error.fix)
            continue
        # Dates and padding of the archive carry nothing.
        assert model.info == original.info
        for name, weight in original.network.state_dict().items():
            assert torch.equal(model.network.state_dict()[name], weight)
    assert fixes
    assert all(fixes)


def test_every_damaged_weight_is_noticed(tmp_path):
    whole = bytearray(whole_model(tmp_path / "m.pt"))
    weight = next(iter(load_model(tmp_path / "m.pt", CPU).network.state_dict().values()))
    position = whole.find(weight.numpy().tobytes())
    assert position > 0
    whole[position + 2] ^= 1
    (tmp_path / "m.pt").write_bytes(whole)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(tmp_path / "m.pt", CPU)


def test_the_card_travels_along_and_can_be_replaced_without_touching_weights(tmp_path):
    whole_model(tmp_path / "m.pt")
    before = load_model(tmp_path / "m.pt", CPU)
    assert before.card == "# A model"
    info = before.info.model_copy(update={"versions": {"torch": "2.13.0"}})
    update_model(tmp_path / "m.pt", info, card="# Better")
    after = load_model(tmp_path / "m.pt", CPU)
    assert (after.card, after.info.versions) == ("# Better", {"torch": "2.13.0"})
    assert after.digest != before.digest
    for name, weight in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], weight)


def test_a_model_of_an_older_version_still_loads(tmp_path):
    info = model_info()
    weights = build_network(info.plan.network).state_dict()
    later = {"cleanup", "training_ranges", "versions"}
    old = {k: v for k, v in info.model_dump(mode="json").items() if k not in later}
    old["task"] = {"channels": old["task"]["channels"], "classes": old["task"]["classes"]}
    content = {"format": "voxline-model-1", "weights": weights, "info": json.dumps(old)}
    torch.save(content, tmp_path / "old.pt")
    model = load_model(tmp_path / "old.pt", CPU)
    assert (model.card, model.info.cleanup, model.info.training_ranges) == ("", (), None)


def test_a_model_of_a_newer_version_says_so(tmp_path):
    info = model_info()
    newer = {**info.model_dump(mode="json"), "voxline_version": "7.0", "mood": "good"}
    content = {"format": "voxline-model-1", "weights": {}, "info": json.dumps(newer)}
    torch.save(content, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="mood") as raised:
        load_model(tmp_path / "new.pt", CPU)
    assert "written by Voxline 7.0" in raised.value.fix


@pytest.mark.parametrize("info", [None, "", "{", "[]", "{}"])
def test_a_model_without_a_description_is_refused(tmp_path, info):
    content = {"format": "voxline-model-1", "weights": {}, "info": info}
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="description"):
        load_model(tmp_path / "x.pt", CPU)
