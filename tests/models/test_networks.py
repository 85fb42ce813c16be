"""Networks are built as planned and keep the size of their input."""

import copy

import pytest
import torch
from network_builders import DEEP, KINDS, PARAMETERS, patch_of, small_network

from pipeline.artifacts import NetworkPlan
from pipeline.core.errors import ConfigError
from pipeline.models.networks import (
    build_network,
    count_parameters,
    network_arguments,
    network_name,
    plain_weights,
)


def network_plan(kind="dynunet", **changes) -> NetworkPlan:
    values = {
        "kind": kind,
        "n_input_channels": 2,
        "n_output_channels": 4,
        "features": (4, 8, 16),
        "kernels": ((3, 3, 1), (3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 2)),
    }
    return NetworkPlan(**{**values, **changes})


def outputs_of(network, name, seed=0):
    generator = torch.Generator().manual_seed(seed)
    outputs = network(torch.randn((2, 1, *patch_of(name)), generator=generator))
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def small_built(name, **changes):
    torch.manual_seed(0)
    if KINDS[name]["kind"] == "swinunetr":
        pytest.importorskip("einops")
    return build_network(small_network(name, **changes))


@pytest.mark.parametrize("kind", ["dynunet", "unet"])
def test_output_has_the_size_of_the_input_and_a_channel_per_class(kind):
    network = build_network(network_plan(kind))
    output = network(torch.zeros(2, 2, 16, 12, 8))
    assert output.shape == (2, 4, 16, 12, 8)
    assert count_parameters(network) > 1000


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_kind_answers_at_full_size_and_coarser_where_planned(name):
    network, patch = small_built(name), patch_of(name)
    n_deep = small_network(name).n_deep_outputs
    expected = [(2, 3, *(n // 2**level for n in patch)) for level in range(n_deep + 1)]
    assert [tuple(o.shape) for o in outputs_of(network, name)] == expected
    with torch.no_grad():
        answer = network.eval()(torch.zeros(1, 1, *patch))
    assert isinstance(answer, torch.Tensor)
    assert answer.shape == (1, 3, *patch)


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradients_reach_every_weight(name):
    network = small_built(name)
    sum((output**2).mean() for output in outputs_of(network, name)).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_copy_and_a_reloaded_network_give_the_same(name):
    network = small_built(name)
    # As a learner in the middle of its training: outputs of the last step must not be in the way.
    outputs_of(network, name)[0].sum().backward()
    reloaded = build_network(small_network(name))
    reloaded.load_state_dict(network.state_dict())
    with torch.no_grad():
        first, *others = (
            outputs_of(n.eval(), name)[0] for n in (network, copy.deepcopy(network), reloaded)
        )
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", DEEP)
def test_full_logits_are_the_same_in_training_and_evaluation(name):
    network = small_built(name)
    with torch.no_grad():
        trained = outputs_of(network.train(), name)[0]
        evaluated = outputs_of(network.eval(), name)[0]
    torch.testing.assert_close(trained, evaluated)


def test_weights_of_a_deeply_supervised_dynunet_fit_a_plain_one():
    deep, plain = small_built("dynunet_deep"), small_built("dynunet")
    plain.load_state_dict(plain_weights(deep.state_dict()))
    assert count_parameters(deep) > count_parameters(plain)
    with torch.no_grad():
        one, other = (outputs_of(n.eval(), "dynunet")[0] for n in (deep, plain))
    assert torch.equal(one, other)


def test_residual_blocks_add_weights():
    assert count_parameters(small_built("residual")) > count_parameters(small_built("dynunet"))


def test_a_small_stem_leaves_out_weights_of_the_first_block_alone():
    kernels = small_network().kernels
    small = small_built("dynunet", kernels=((1, 1, 1), *kernels[1:]))
    # Two convolutions: 1 to 4 and 4 to 4 channels.
    n_less = count_parameters(small_built("dynunet")) - count_parameters(small)
    assert n_less == 26 * (4 + 16)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("dynunet", {"trans_bias": True}),
        ("unet", {"num_res_units": 3}),
        ("segresnet", {"blocks_down": [3, 3, 3, 5]}),
        ("mednext", {"kernel_size": 5}),
    ],
)
def test_arguments_of_the_user_overrule_the_plan(name, args):
    plan = small_network(name, args=args)
    assert network_arguments(plan).items() >= args.items()
    assert count_parameters(build_network(plan)) > count_parameters(small_built(name))


def test_names_are_those_of_monai():
    assert network_name(small_network("segresnet")) == "SegResNetDS"
    assert network_name(small_network("monai")) == "AttentionUnet"


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigError, match="DynUNet has no argument 'res_blok'") as error:
        build_network(small_network(args={"res_blok": True}))
    assert error.value.fix == "did you mean 'res_block'?"


def test_the_seed_decides_the_weights():
    torch.manual_seed(3)
    one = build_network(network_plan()).state_dict()
    torch.manual_seed(3)
    two = build_network(network_plan()).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_planned_hippocampus_network_has_the_published_size():
    plan = network_plan(
        n_input_channels=1,
        n_output_channels=3,
        features=(8, 16, 32, 64),
        kernels=((3, 3, 3),) * 4,
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    )
    assert 0.3e6 < count_parameters(build_network(plan)) < 0.4e6
