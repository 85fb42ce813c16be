"""The optional second backend gives the same numbers."""

import logging
import sys

import numpy as np
import pytest
import torch
from models_builders import model_info

from pipeline.core.errors import UsageError
from pipeline.models.networks import build_network
from pipeline.models.openvino import compile_network
from pipeline.models.predictor import PredictionOptions, make_predictor
from pipeline.models.segment import segment_prepared

CPU = torch.device("cpu")


def predictors(n_classes=9, **chosen):
    torch.manual_seed(0)
    info = model_info(source_values=tuple((value,) for value in range(1, n_classes)))
    network = build_network(info.plan.network).eval()
    for backend in ("torch", "openvino"):
        options = PredictionOptions(backend=backend, **chosen)
        yield make_predictor([network], info.plan, info.task, options)


def test_numbers_and_labels_agree_with_torch(monkeypatch):
    pytest.importorskip("openvino_telemetry", reason="the extra openvino is not installed")
    for name in [m for m in sys.modules if m.startswith("openvino_telemetry")]:
        monkeypatch.delitem(sys.modules, name)
    own, compiled = predictors()
    for n_windows in (1, 2):
        windows = torch.randn((n_windows, 1, 16, 16, 16))
        torch.testing.assert_close(compiled(windows), own(windows), atol=1e-3, rtol=0)
    image = np.random.default_rng(0).standard_normal((1, 33, 20, 18), dtype=np.float32)
    expected, found = (segment_prepared(p, image, (40, 20, 22)) for p in (own, compiled))
    assert (found.labels == expected.labels).mean() >= 0.9999
    assert found.computed_on == "openvino"
    # Nothing that could report to anyone was loaded.
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("options", [{"window_batch": 1}, {"window_batch": 3, "mirror": (1,)}])
def test_any_batch_gives_the_labels_of_torch(options):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    image = np.random.default_rng(0).standard_normal((1, 33, 20, 18), dtype=np.float32)
    own, compiled = predictors(**options)
    expected, found = (segment_prepared(p, image, (40, 20, 22)).labels for p in (own, compiled))
    assert (found == expected).mean() >= 0.9999


def test_more_windows_than_it_was_compiled_for_are_refused():
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    run = compile_network(torch.nn.Conv3d(1, 1, 1).eval(), (1, 1, 4, 4, 4), CPU)
    with pytest.raises(ValueError, match="2 windows"):
        run(torch.zeros((2, 1, 4, 4, 4)))


def test_it_does_not_run_on_a_gpu():
    with pytest.raises(UsageError, match="computes on a CPU"):
        compile_network(torch.nn.Identity(), (2, 1, 4, 4, 4), torch.device("cuda"))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match="not installed") as raised:
        compile_network(torch.nn.Identity(), (2, 1, 4, 4, 4), CPU)
    assert "voxline[openvino]" in raised.value.fix


def test_a_network_that_cannot_be_converted_is_refused_in_words():
    class Erratic(torch.nn.Module):
        def forward(self, windows):
            raise RuntimeError("never traced")

    with pytest.raises(UsageError, match="cannot convert this network") as raised:
        compile_network(Erratic(), (2, 1, 4, 4, 4), CPU)
    assert "torch" in raised.value.fix
    logging.getLogger().setLevel(logging.WARNING)
