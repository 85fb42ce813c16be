from pathlib import Path

import numpy as np
import phantoms

from pipeline.core.task import LabelClass, Task
from pipeline.evaluate.cases import MISSING_PREDICTION, score_pairs
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.pairs import CasePair

TASK = Task(channels=(), classes=(LabelClass(name="organ", index=1, source_values=(1,)),))


def label_file(folder: Path, name: str, *, value: int = 1) -> Path:
    array = np.zeros((5, 5, 5), np.uint8)
    array[1:3, 1:3, 1:3] = value
    return phantoms.write_nifti(folder / f"{name}.nii.gz", array, np.eye(4))


def test_scores_and_failures_keep_the_order_of_the_pairs(tmp_path):
    good, other = label_file(tmp_path, "good"), label_file(tmp_path, "other", value=9)
    scored = score_pairs(
        [
            CasePair("z", good, good),
            CasePair("m", None, good),
            CasePair("b", other, good),
            CasePair("a", good, tmp_path / "gone.nii.gz"),
        ],
        TASK,
        EvaluateConfig(),
        tmp_path / "cases",
    )
    assert [c.case_id for c in scored.cases] == ["z", "m"]
    assert [f.case_id for f in scored.failed] == ["m", "b", "a"]
    missing, undeclared, gone = scored.failed
    assert missing.message == MISSING_PREDICTION
    assert "the prediction holds the values 0, 9; declared are 0, 1" in undeclared.message
    assert "gone.nii.gz" in gone.message


def test_a_reference_that_cannot_be_read_fails_even_without_a_prediction(tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"\x1f\x8b but no more")
    scored = score_pairs([CasePair("c", None, broken)], TASK, EvaluateConfig(), tmp_path)
    assert scored.cases == ()
    assert scored.failed[0].message.startswith("not scored")


def test_scores_are_kept_until_a_file_or_what_is_measured_changes(tmp_path):
    reference = label_file(tmp_path, "reference")
    prediction = label_file(tmp_path / "pred", "prediction")
    pair = CasePair("c", prediction, reference)
    cache = tmp_path / "cases"

    def kept(**changes):
        score_pairs([pair], TASK, EvaluateConfig(**changes), cache)
        return len(list(cache.glob("*.json")))

    assert kept() == 1
    assert kept(policy="nnunet", n_bootstrap=7, seed=3) == 1
    assert kept(tolerances_mm={"organ": 1.0}) == 2
    array = np.zeros((5, 5, 5), np.uint8)
    array[1, 1, 1] = 1
    phantoms.write_nifti(prediction, array, np.eye(4))
    assert kept() == 3
    (scored,) = score_pairs([pair], TASK, EvaluateConfig(), cache).cases
    assert scored.of_class("organ").n_prediction == 1


def test_a_damaged_kept_score_is_made_again(tmp_path):
    reference = label_file(tmp_path, "reference")
    pair = CasePair("c", reference, reference)
    first = score_pairs([pair], TASK, EvaluateConfig(), tmp_path / "cases")
    (file,) = (tmp_path / "cases").glob("*.json")
    file.write_text(file.read_text()[:40])
    assert score_pairs([pair], TASK, EvaluateConfig(), tmp_path / "cases") == first


def test_everything_that_is_asked_is_measured(tmp_path):
    reference = label_file(tmp_path, "reference")
    config = EvaluateConfig(multi=("organ",), regions={"body": ("organ",)})
    (case,) = score_pairs([CasePair("c", reference, reference)], TASK, config, tmp_path / "k").cases
    assert [c.class_name for c in case.classes] == ["organ", "body"]
    assert case.surface_of("body").hd95_mm.value == 0.0
    assert case.lesion_of("organ").n_detected == 1
    (fewer,) = score_pairs(
        [CasePair("c", reference, reference)],
        TASK,
        EvaluateConfig(surfaces=False),
        tmp_path / "k",
    ).cases
    assert fewer.surfaces == ()


def test_probabilities_are_judged_where_there_is_something(tmp_path):
    reference = label_file(tmp_path, "reference")
    array = np.zeros((5, 5, 5), np.uint8)
    array[1:3, 1:3, 1:3] = 1
    certain = np.stack([1.0 - array, array], -1).astype(np.float32)
    pair = CasePair("c", reference, reference)
    config = EvaluateConfig(probabilities=tmp_path / "probabilities")
    for share, expected in ((1.0, 0.0), (0.75, 0.25)):
        mixed = certain * share + (1 - certain) * (1 - share)
        phantoms.write_nifti(tmp_path / "probabilities" / "reference.nii.gz", mixed, np.eye(4))
        (case,) = score_pairs([pair], TASK, config, tmp_path / "k").cases
        assert abs(case.calibration_error - expected) < 1e-6
