"""Weights of another model: matched by name of class and channel, the rest fresh."""

import pytest
import torch
from models_builders import model_info

from pipeline.artifacts import LabelClass, ModelInfo
from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.task import Channel, Region, Task
from pipeline.models.checkpoint import Model, load_model, save_model
from pipeline.models.networks import build_network
from pipeline.models.warm_start import digest_of, take_over


def described(
    classes: tuple[str, ...] = ("liver", "kidney"),
    channels: tuple[str, ...] = ("T1", "T2"),
    regions: tuple[str, ...] = (),
    **network: object,
) -> ModelInfo:
    info = model_info(n_channels=len(channels))
    task = Task(
        channels=tuple(Channel(name=name, modality="mr") for name in channels),
        classes=tuple(
            LabelClass(name=name, index=i, source_values=(i,)) for i, name in enumerate(classes, 1)
        ),
        regions=tuple(Region(name=name, classes=classes, paints=classes[0]) for name in regions),
    )
    sizes = {"n_input_channels": len(channels), "n_output_channels": task.n_outputs}
    plan = info.plan.network.model_copy(update={**sizes, **network})
    return info.model_copy(
        update={"task": task, "plan": info.plan.model_copy(update={"network": plan})}
    )


def model_of(info: ModelInfo, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    return Model(build_network(info.plan.network), info, "digest")


def fresh(info: ModelInfo) -> torch.nn.Module:
    torch.manual_seed(99)
    return build_network(info.plan.network)


HEAD = "output_block.conv.conv"
FIRST = "input_block.conv1.conv.weight"


def head_and_first(network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    state = network.state_dict()
    return state[f"{HEAD}.weight"], state[f"{HEAD}.bias"], state[FIRST]


def test_the_same_task_takes_everything():
    info = described()
    source, network = model_of(info), fresh(info)
    transfer = take_over(network, info, source, "best.pt")
    old = source.network.state_dict()
    assert all(torch.equal(t, old[name]) for name, t in network.state_dict().items())
    assert transfer.whole.n_tensors == len(old)
    assert (transfer.partial.n_tensors, transfer.fresh.n_tensors) == (0, 0)
    assert transfer.differences == ()


def test_outputs_go_by_the_name_of_their_class_not_by_place():
    source = model_of(described(("liver", "kidney")))
    info = described(("kidney", "spleen", "liver"))
    network, untouched = fresh(info), fresh(info)
    transfer = take_over(network, info, source, "best.pt")
    weight, bias, _ = head_and_first(network)
    old_weight, old_bias, _ = head_and_first(source.network)
    # background, kidney, spleen, liver here; background, liver, kidney there.
    for here, there in ((0, 0), (1, 2), (3, 1)):
        assert torch.equal(weight[here], old_weight[there])
        assert torch.equal(bias[here], old_bias[there])
    assert torch.equal(weight[2], head_and_first(untouched)[0][2])
    assert transfer.shared_outputs == ("background", "kidney", "liver")
    assert transfer.partial.n_tensors == 2
    assert transfer.partial.n_weights == 3 * old_weight[0].numel() + 3
    assert transfer.fresh.n_tensors == 0


def test_as_many_classes_of_other_names_do_not_take_each_others_outputs():
    source = model_of(described(("liver", "kidney")))
    info = described(("kidney", "liver"))
    network = fresh(info)
    take_over(network, info, source, "best.pt")
    old_weight = head_and_first(source.network)[0]
    assert torch.equal(head_and_first(network)[0], old_weight[[0, 2, 1]])


def test_input_channels_go_by_name():
    source = model_of(described(channels=("T1", "T2")))
    info = described(channels=("FLAIR", "T1"))
    network, untouched = fresh(info), fresh(info)
    transfer = take_over(network, info, source, "best.pt")
    first, old_first = head_and_first(network)[2], head_and_first(source.network)[2]
    assert torch.equal(first[:, 1], old_first[:, 0])
    assert torch.equal(first[:, 0], head_and_first(untouched)[2][:, 0])
    assert transfer.shared_channels == ("T1",)


def test_a_region_is_not_a_class_of_the_same_name():
    source = model_of(described(("liver", "kidney")))
    info = described(("liver", "kidney"), regions=("liver",))
    transfer = take_over(fresh(info), info, source, "best.pt")
    assert transfer.shared_outputs == ()
    assert transfer.fresh.n_tensors == 2


@pytest.mark.parametrize("kind", ["unet", "dynunet"])
def test_every_tensor_of_a_network_is_accounted_for(kind):
    source = model_of(described(kind=kind))
    info = described(("liver", "spleen", "kidney"), ("T2", "CT", "T1"), kind=kind)
    network = fresh(info)
    transfer = take_over(network, info, source, "best.pt")
    parts = (transfer.whole, transfer.partial, transfer.fresh)
    assert sum(part.n_tensors for part in parts) == len(network.state_dict())
    assert transfer.partial.n_tensors >= 2
    assert transfer.whole.n_tensors > transfer.partial.n_tensors


def test_layers_of_another_width_begin_fresh_and_the_difference_is_named():
    source = model_of(described(features=(4, 8, 16)))
    info = described(features=(4, 8, 8))
    network = fresh(info)
    transfer = take_over(network, info, source, "best.pt")
    assert transfer.fresh.n_tensors > 0
    assert transfer.differences == ("features (4, 8, 16) there, (4, 8, 8) here",)
    old_first = head_and_first(source.network)[2]
    assert torch.equal(head_and_first(network)[2], old_first)


def test_another_architecture_is_refused_with_the_differences():
    info = described(kind="dynunet")
    with pytest.raises(ConfigError, match="kind unet there, dynunet here") as raised:
        take_over(fresh(info), info, model_of(described(kind="unet")), "old/best.pt")
    assert "old/best.pt" in raised.value.where


def test_a_model_of_which_nothing_fits_is_refused():
    info = described(("spleen",), ("CT",), ("whole",), features=(4, 8, 8))
    source = model_of(described(("liver",), ("T1",), features=(6, 12, 12)))
    with pytest.raises(ConfigError, match="no weight") as raised:
        take_over(fresh(info), info, source, "best.pt")
    assert "features (6, 12, 12) there" in raised.value.what


def test_random_numbers_that_follow_are_the_same():
    info = described()
    source, network = model_of(info), fresh(info)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    take_over(network, info, source, "best.pt")
    assert torch.equal(torch.rand(3), expected)


def test_the_digest_is_that_of_the_model_file(tmp_path):
    info = model_info()
    file = tmp_path / "best.pt"
    save_model(file, build_network(info.plan.network).state_dict(), info)
    assert digest_of(file) == load_model(file, torch.device("cpu")).digest
    with pytest.raises(CheckpointError, match="cannot read the model to begin with"):
        digest_of(tmp_path / "nothing.pt")
