import sys

import numpy as np
import pytest
import torch
from export_builders import info_with, untrained

from pipeline.core.errors import UsageError
from pipeline.models.export.card import CARD_NAME, ExportCard
from pipeline.models.export.onnx import ONNX_NAME, write_onnx
from pipeline.models.export.windows import example_windows


@pytest.mark.parametrize("kind", ["dynunet", pytest.param("unet", marks=pytest.mark.slow)])
def test_onnx_runtime_gives_what_the_network_gives(tmp_path, kind, capfd):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = untrained(info_with(kind=kind))
    assert write_onnx(model, tmp_path) <= 1e-4
    assert "torchvision" not in "".join(capfd.readouterr())

    file = tmp_path / ONNX_NAME
    onnx.checker.check_model(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, 16, 16, 16]
    windows = example_windows(model.info, 5)
    with torch.inference_mode():
        expected = model.network(windows).numpy()
    (logits,) = session.run(["logits"], {"image": windows.numpy()})
    assert np.abs(logits - expected).max() < 1e-4
    assert np.mean(logits.argmax(axis=1) == expected.argmax(axis=1)) >= 0.999
    stored = session.get_modelmeta().custom_metadata_map[CARD_NAME]
    assert ExportCard.model_validate_json(stored).outputs == ("background", "class_1", "class_2")


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="onnxruntime") as caught:
        write_onnx(untrained(info_with()), tmp_path)
    assert "voxline[export]" in caught.value.fix
