"""What training could not use is refused before it begins."""

import pytest
import torch
from network_builders import KINDS, patch_of, small_network

from pipeline.core.errors import ConfigError
from pipeline.models.network_check import check_network


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_passes(name):
    if name == "swinunetr":
        pytest.importorskip("einops")
    check_network(small_network(name), patch_of(name))


@pytest.mark.parametrize(
    ("name", "args", "found"),
    [
        ("DenseNet121", {}, r"a tensor of \(2, 3\)"),
        ("BasicUNetPlusPlus", {}, r"a list of \(2, 3, 32, 32, 32\)"),
        ("VNet", {"out_channels": 2}, r"a tensor of \(2, 2, 32, 32, 32\)"),
        (
            "Generator",
            {"latent_shape": [3], "start_shape": [3, 4, 4, 4], "channels": [4], "strides": [1]},
            "cannot take patches",
        ),
    ],
)
def test_networks_that_give_something_else_are_refused(name, args, found):
    with pytest.raises(ConfigError, match=found):
        check_network(small_network("monai", name=name, args=args), (32, 32, 32))


def test_a_patch_that_does_not_divide_is_refused_with_the_words_of_monai():
    with pytest.raises(ConfigError, match=r"must be divisible by \[8, 8, 8\]") as error:
        check_network(small_network("segresnet"), (20, 16, 16))
    assert "train.patch_size" in error.value.fix


def test_coarser_outputs_that_were_not_planned_are_refused():
    plan = small_network(args={"deep_supervision": True})
    with pytest.raises(ConfigError, match="alone in training"):
        check_network(plan, (16, 16, 16))


def test_the_check_leaves_random_numbers_as_they_were():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_network(small_network(), (16, 16, 16))
    assert torch.equal(torch.rand(3), expected)
