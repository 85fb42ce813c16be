from export_builders import CT, info_with, untrained

from pipeline.artifacts import CleanupRule, Normalization, Region, read_artifact
from pipeline.models.export.card import CARD_NAME, ExportCard, output_names, steps_of, write_card


def rule(kind, **more):
    return CleanupRule(
        class_name="class_1", kind=kind, dice_before=0.8, dice_after=0.9, n_cases=9, **more
    )


def test_the_card_comes_back_without_the_hashes_of_training_images(tmp_path):
    info = info_with().model_copy(update={"training_images": ("hash",)})
    written = write_card(untrained(info), tmp_path, "onnx")
    card = read_artifact(tmp_path / CARD_NAME, ExportCard, made_by="export")
    assert card == written
    assert card.info.training_images == ()
    assert card.outputs == ("background", "class_1", "class_2")
    assert card.window == info.plan.patch_size


def test_the_text_for_people_travels_where_there_is_one(tmp_path):
    model = untrained(info_with())
    write_card(model, tmp_path, "pt2")
    assert not (tmp_path / "model_card.md").exists()
    with_text = type(model)(model.network, model.info, model.digest, "# A model\n")
    write_card(with_text, tmp_path, "pt2")
    assert (tmp_path / "model_card.md").read_text() == "# A model\n"


def test_every_step_is_named_with_its_numbers():
    kinds = (CT, Normalization(kind="zscore"), Normalization(kind="zscore_nonzero"))
    rules = (rule("keep_largest"), rule("remove_islands", min_ml=0.25), rule("fill_holes"))
    text = "\n".join(
        steps_of(info_with(normalizations=kinds, cleanup=rules, spacing_mm=(1.0, 1.5, 3.0)))
    )
    for part in (
        *("clip to -100 .. 250, subtract 40, divide by 60", "mean of all voxels"),
        *("any channel is not 0", "1 x 1.5 x 3 mm", "16 x 16 x 16", "largest output"),
        *("keep the largest piece", "smaller than 0.25 ml", "fill background", "class_2 as 2"),
    ):
        assert part in text


def test_regions_are_named_in_the_order_they_are_painted():
    task = info_with().task
    regions = (
        Region(name="whole", classes=("class_1", "class_2"), paints="class_1"),
        Region(name="core", classes=("class_2",), paints="class_2"),
    )
    task = task.model_copy(update={"regions": regions})
    info = info_with().model_copy(update={"task": task})
    assert output_names(task) == ("whole", "core")
    assert "paint whole as class_1, then core as class_2" in "\n".join(steps_of(info))
