import pytest
import torch
from export_builders import info_with, untrained

from pipeline.core.errors import CheckpointError
from pipeline.models.export.windows import check_outputs, example_windows


@pytest.fixture(scope="module")
def model():
    return untrained(info_with())


def test_the_windows_are_the_same_every_time():
    info = info_with()
    first = example_windows(info, 3)
    assert first.shape == (3, 1, 16, 16, 16)
    assert torch.equal(first, example_windows(info, 3))


def test_the_network_agrees_with_itself(model):
    assert check_outputs(model, model.network, where="itself") == 0.0


def test_another_network_is_refused(model):
    with pytest.raises(CheckpointError, match="differs from the network"):
        check_outputs(model, lambda windows: model.network(windows) + 0.1, where="file")


def test_outputs_that_are_no_numbers_are_refused(model):
    with pytest.raises(CheckpointError, match="differs"):
        check_outputs(model, lambda windows: model.network(windows) * torch.nan, where="file")
