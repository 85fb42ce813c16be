"""Classes of MONAI are found by name, and their arguments checked before anything is built."""

import pytest
from monai.losses import DiceCELoss
from monai.networks.nets import AttentionUnet, VNet
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.models.by_name import checked_arguments, construct, loss_class, network_class

KNOWN = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "img_size": [32, 32, 32]}
GIVEN = {"channels": [4, 8], "strides": [2]}


def test_classes_are_found():
    assert network_class("AttentionUnet") is AttentionUnet
    assert loss_class("DiceCELoss") is DiceCELoss


@pytest.mark.parametrize(
    ("find", "name", "fix"),
    [
        (network_class, "AtentionUnet", "did you mean 'AttentionUnet'?"),
        (loss_class, "DiceCeLoss", "did you mean 'DiceCELoss'?"),
    ],
)
def test_a_misspelt_name_gets_the_closest_one(find, name, fix):
    with pytest.raises(ConfigError, match=name) as error:
        find(name)
    assert error.value.fix == fix


# A function, a module, something private, something of another module of MONAI.
@pytest.mark.parametrize("name", ["MedNextS", "dynunet", "__name__", "DiceLoss", ""])
def test_what_is_no_network_is_refused(name):
    with pytest.raises(ConfigError, match=r"no class of monai\.networks\.nets"):
        network_class(name)


def test_known_arguments_are_filled_in_where_the_class_takes_them():
    filled = checked_arguments(AttentionUnet, GIVEN, KNOWN, "here")
    assert filled == {**GIVEN, "spatial_dims": 3, "in_channels": 1, "out_channels": 2}
    assert checked_arguments(VNet, {"in_channels": 4}, KNOWN, "here")["in_channels"] == 4


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigError, match="AttentionUnet has no argument 'chanels'") as error:
        checked_arguments(AttentionUnet, {"chanels": [4, 8]}, KNOWN, "here")
    assert error.value.fix == "did you mean 'channels'?"
    assert error.value.where == "here"


def test_missing_arguments_are_named():
    with pytest.raises(ConfigError, match="AttentionUnet needs channels, strides") as error:
        checked_arguments(AttentionUnet, {}, KNOWN, "train.network.args")
    assert "train.network.args.channels" in error.value.fix


def test_values_that_a_class_refuses_are_an_error_of_the_configuration():
    arguments = checked_arguments(VNet, {"act": "no such"}, KNOWN, "here")
    with pytest.raises(ConfigError, match="VNet cannot be built") as error:
        construct(VNet, arguments, "here")
    assert error.value.where == "here"


def test_a_missing_package_is_said_to_be_missing():
    class NeedsMore(nn.Module):
        def __init__(self):
            raise ImportError("no module 'more'\nlong story")

    with pytest.raises(ConfigError, match="no module 'more'") as error:
        construct(NeedsMore, {}, "here")
    assert "long story" not in str(error.value)
    assert error.value.fix == "install the missing package with pip"
