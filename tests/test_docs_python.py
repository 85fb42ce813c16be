"""The Python of docs/how-to/predict-from-python.md runs as it stands there."""

from pathlib import Path

import numpy as np
from export_builders import info_with, untrained
from phantoms import case

from pipeline.models.checkpoint import save_model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "predict-from-python.md"


def test_the_snippet_prints_a_volume_per_class(tmp_path, monkeypatch, capsys):
    model = untrained(info_with(spacing_mm=(2.0, 2.0, 2.0)))
    monkeypatch.chdir(tmp_path)
    file = Path("runs/demo/train/fold_0/best.pt")
    file.parent.mkdir(parents=True)
    save_model(file, model.network.state_dict(), model.info)
    image, _, affine = case(0, (16, 18, 16), (2.0, 2.0, 2.0), "LPS")
    np.save("image.npy", image)
    np.save("affine.npy", affine)

    snippet = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102  # our own page
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed] == ["class_1", "class_2"]
    assert names["label"].array.shape == image.shape
    assert np.array_equal(names["label"].affine, affine)
