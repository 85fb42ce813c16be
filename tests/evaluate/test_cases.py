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
    scored = score_pairs([CasePair("c", None, broken)], TASK, EvaluateConfig())
    assert scored.cases == ()
    assert scored.failed[0].message.startswith("not scored")
