"""Networks as one function: batches, mirror images, averages."""

from dataclasses import replace

import pytest
import torch
from models_builders import model_info

from pipeline.artifacts import LabelClass
from pipeline.core.errors import ConfigError
from pipeline.models.predictor import (
    FlipTally,
    PredictionOptions,
    make_predictor,
    mirror_axes_for,
)

GPU = torch.device("cuda")


class OneSided(torch.nn.Module):
    """Answers by the place in the window, so that mirroring changes the answer."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor
        self.batches = []

    def forward(self, windows):
        self.batches.append(len(windows))
        ramp = torch.arange(float(windows.shape[2]))[:, None, None] / windows.shape[2]
        return torch.cat([windows, self.factor * windows * ramp, windows - ramp], dim=1)


def predictor_of(networks, info=None, device=None, patch_size=(6, 4, 4), **options):
    info = info or model_info(patch_size=patch_size)
    device = device or torch.device("cpu")
    return make_predictor(networks, info.plan, info.task, PredictionOptions(**options), device)


def random_windows(n=2, size=(6, 4, 4)):
    return torch.randn((n, 1, *size), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("n_windows", [1, 2])
@pytest.mark.parametrize("window_batch", [2, 5, 16])
def test_mirroring_is_the_mean_over_mirror_images(axes, n_windows, window_batch):
    network, windows = OneSided(), random_windows(n_windows)
    predictor = predictor_of([network], mirror=axes, window_batch=window_batch)
    expected = torch.zeros_like(network(windows))
    for code in range(2 ** len(axes)):
        flipped = [axis + 2 for n, axis in enumerate(axes) if code >> n & 1]
        expected += network(windows.flip(flipped)).flip(flipped) / 2 ** len(axes)
    network.batches.clear()
    torch.testing.assert_close(predictor(windows), expected, atol=1e-6, rtol=1e-5)
    assert max(network.batches) <= max(2, window_batch)
    # Mirror images of one window fill the batch.
    if n_windows == 1 and window_batch == 16:
        assert network.batches == [2 ** len(axes)]


def test_on_a_cpu_a_lone_small_window_goes_in_twice():
    network = OneSided()
    assert predictor_of([network])(random_windows(1)).shape[0] == 1
    assert network.batches == [2]
    network.batches.clear()
    large = (60, 60, 4)
    predictor_of([network], patch_size=large)(random_windows(1, large))
    assert network.batches == [1]


def test_probabilities_or_logits_of_networks_are_averaged():
    networks, windows = [OneSided(1.0), OneSided(-3.0), OneSided(0.2)], random_windows()
    logits = [network(windows) for network in networks]
    mean = sum(part.softmax(dim=1) for part in logits) / 3
    found = predictor_of(networks)(windows)
    torch.testing.assert_close(found.softmax(dim=1), mean, atol=1e-6, rtol=1e-5)
    found = predictor_of(networks, average="logits")(windows)
    torch.testing.assert_close(found, sum(logits) / 3, atol=1e-6, rtol=1e-5)


def test_regions_are_averaged_as_sigmoids():
    networks, windows = [OneSided(1.0), OneSided(-3.0)], random_windows()
    predictor = predictor_of(networks)
    predictor = replace(predictor, decoding=replace(predictor.decoding, paints=(1, 2, 2)))
    mean = sum(network(windows).sigmoid() for network in networks) / 2
    torch.testing.assert_close(predictor(windows).sigmoid(), mean, atol=1e-6, rtol=1e-5)


def test_certain_networks_that_contradict_each_other_give_finite_numbers():
    class Certain(torch.nn.Module):
        def __init__(self, winner):
            super().__init__()
            self.winner = winner

        def forward(self, windows):
            logits = torch.full((len(windows), 3, *windows.shape[2:]), -1000.0)
            logits[:, self.winner] = 1000.0
            return logits

    found = predictor_of([Certain(0), Certain(1), Certain(1)])(random_windows())
    assert torch.isfinite(found).all()
    assert (found.argmax(dim=1) == 1).all()


def test_a_symmetric_network_agrees_with_its_mirror_image():
    class Symmetric(torch.nn.Module):
        def forward(self, windows):
            return torch.cat([-windows, windows, windows * 0 - 5], dim=1)

    tally = FlipTally()
    assert tally.disagreement is None
    predictor_of([Symmetric()], mirror=(0, 1))(random_windows(), tally)
    assert tally.disagreement == 0


def test_a_network_that_knows_left_from_right_disagrees_with_its_mirror_image():
    class LeftOnly(torch.nn.Module):
        def forward(self, windows):
            logits = torch.zeros((len(windows), 3, *windows.shape[2:]))
            logits[:, 0] = 0.5
            logits[:, 1, : windows.shape[2] // 2] = 1
            return logits

    tally = FlipTally()
    predictor = predictor_of([LeftOnly()], patch_size=(8, 4, 4), mirror=(0,))
    predictor(random_windows(2, (8, 4, 4)), tally)
    assert tally.disagreement == 1
    half = FlipTally()
    predictor = predictor_of([LeftOnly()], patch_size=(8, 4, 4), mirror=(1,))
    predictor(random_windows(2, (8, 4, 4)), half)
    assert half.disagreement == 0


def sided_info(mirror_axes):
    info = model_info()
    classes = (
        LabelClass(name="kidney_left", index=1, source_values=(1,)),
        LabelClass(name="kidney_right", index=2, source_values=(2,)),
    )
    return info.model_copy(
        update={
            "task": info.task.model_copy(update={"classes": classes}),
            "plan": info.plan.model_copy(update={"mirror_axes": mirror_axes}),
        }
    )


class Noting(torch.nn.Conv3d):
    """Notes the numbers it computes in."""

    def forward(self, windows):
        outputs = super().forward(windows)
        self.dtype = outputs.dtype
        return outputs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float16), ("float32", torch.float32)]
)
def test_a_gpu_computes_in_the_numbers_asked_for(precision, dtype):
    network = Noting(1, 3, 3, padding=1).cuda().eval()
    predictor = predictor_of([network], device=torch.device("cuda"), precision=precision)
    assert predictor(torch.randn(2, 1, 6, 4, 4)).dtype == torch.float32
    assert network.dtype == dtype
    if precision == "float32":
        assert not torch.backends.cudnn.allow_tf32


def test_left_and_right_are_never_mirrored_where_a_class_names_a_side():
    info = sided_info((0, 2))
    with pytest.raises(ConfigError, match="kidney_left"):
        predictor_of([OneSided()], info, mirror=(0,))
    assert predictor_of([OneSided()], info, mirror=(1,)).mirror_axes == (1,)


def test_without_a_wish_a_cpu_does_not_mirror_and_a_gpu_does_as_in_training():
    plain, sided = model_info(), sided_info((0, 2))
    trained = plain.plan.model_copy(update={"mirror_axes": (0, 2)})
    assert mirror_axes_for("auto", trained, plain.task, torch.device("cpu")) == ()
    assert mirror_axes_for("auto", trained, plain.task, GPU) == (0, 2)
    assert mirror_axes_for("auto", sided.plan, sided.task, GPU) == (2,)
    assert mirror_axes_for("off", trained, plain.task, GPU) == ()


@pytest.mark.parametrize("axes", [(3,), (1, 1), (-1,)])
def test_axes_that_do_not_exist_are_refused(axes):
    with pytest.raises(ConfigError, match="mirror axes"):
        predictor_of([OneSided()], mirror=axes)
