import pytest
import torch
from export_builders import info_with, untrained

from pipeline.models.export.card import CARD_NAME, ExportCard
from pipeline.models.export.pt2 import PT2_NAME, write_pt2
from pipeline.models.export.windows import example_windows


@pytest.mark.parametrize("kind", ["dynunet", pytest.param("unet", marks=pytest.mark.slow)])
def test_the_file_gives_what_the_network_gives_for_any_number_of_windows(tmp_path, kind):
    model = untrained(info_with(kind=kind))
    assert write_pt2(model, tmp_path) <= 1e-5
    text = {CARD_NAME: ""}
    exported = torch.export.load(tmp_path / PT2_NAME, extra_files=text).module()
    windows = example_windows(model.info, 5)
    with torch.inference_mode():
        for n_windows in (1, 2, 5):
            expected = model.network(windows[:n_windows])
            assert torch.allclose(exported(windows[:n_windows]), expected, atol=1e-4)
    assert ExportCard.model_validate_json(text[CARD_NAME]).kind == "pt2"
    assert (
        text[CARD_NAME].encode()
        == ExportCard.model_validate_json((tmp_path / CARD_NAME).read_text())
        .model_dump_json()
        .encode()
    )
