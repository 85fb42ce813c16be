"""Opening models: one or several, and what cannot be opened."""

import pytest
import torch
from infer_builders import config_with, write_model

from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.infer.opened import open_model


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "x.pt").write_text("no model")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        open_model([tmp_path / "x.pt"], config_with())


def test_the_configuration_reaches_the_predictor(tmp_path):
    file = write_model(tmp_path / "best.pt")
    config = config_with(overlap=0.25, window_batch=3, mirror=(1, 2), crop="off", average="logits")
    config = config.model_copy(update={"precision": "float32"})
    opened = open_model([file], config)
    options = opened.predictor.options
    assert (options.overlap, options.window_batch, options.crop) == (0.25, 3, "off")
    assert (options.average, options.precision) == ("logits", "float32")
    assert opened.predictor.mirror_axes == (1, 2)
    with pytest.raises(ConfigError, match="mirror axes"):
        open_model([file], config_with(mirror=(3,)))


def test_the_digest_of_several_models_knows_all_of_them_but_not_their_order(tmp_path):
    files = [write_model(tmp_path / f"{seed}.pt", seed) for seed in range(3)]
    config = config_with()
    one, two = open_model(files[:2], config), open_model(files[1::-1], config)
    assert one.digest == two.digest
    digests = {open_model(group, config).digest for group in (files, files[:1], files[1:])}
    assert len({one.digest, *digests}) == 4


def test_two_models_average_their_probabilities(tmp_path):
    files = [write_model(tmp_path / f"{seed}.pt", seed) for seed in range(2)]
    config = config_with()
    windows = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    both = open_model(files, config).predictor
    assert both.decoding.head is None
    singles = []
    for file in files:
        single = open_model([file], config).predictor
        channels = single(windows).movedim(1, -1).reshape(-1, single.decoding.n_channels)
        head = single.decoding.head
        logits = channels if head is None else head.logits(channels)
        singles.append(torch.softmax(logits, dim=1))
    found = torch.softmax(both(windows), dim=1).movedim(1, -1).reshape(-1, 3)
    assert torch.allclose(found, (singles[0] + singles[1]) / 2, atol=1e-5)
