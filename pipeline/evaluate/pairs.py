"""Which prediction belongs to which reference: by case id, and the references decide."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UsageError
from pipeline.core.text import some_of
from pipeline.evaluate.annotation import EVERYTHING_DRAWN, Unannotated
from pipeline.io.pairing import strip_role

_N_SHOWN = 3


@dataclass(frozen=True)
class CasePair:
    """Files of one case.

    Args:
        case_id: Id of the reference.
        prediction: The prediction; None if there is none.
        reference: The label file.
        unannotated: What nobody drew in it.
    """

    case_id: str
    prediction: Path | None
    reference: Path
    unannotated: Unannotated = EVERYTHING_DRAWN


@dataclass(frozen=True)
class Pairing:
    """Every reference with its prediction, and the predictions nobody asked for.

    Args:
        pairs: One per reference, sorted by case id.
        extra_predictions: File names without a reference.
    """

    pairs: tuple[CasePair, ...]
    extra_predictions: tuple[str, ...]


def pair_cases(predictions: Mapping[str, Path], references: Mapping[str, Path]) -> Pairing:
    """Find the prediction of every reference.

    Equal ids pair first; what is left pairs if the ids are equal without additions such as "_seg",
    "_pred" or "_0000".

    Args:
        predictions: Case id (file name without format suffix) to file.
        references: Case id to label file.

    Returns:
        The pairs; a reference without a prediction is one of them.

    Raises:
        UsageError: If there is no reference, no pair at all, or a prediction is not unique.
    """
    if not references:
        raise UsageError("there are no reference labels to score against", fix="check REF or DATA")
    found = {case_id: predictions[case_id] for case_id in references if case_id in predictions}
    open_predictions = {k: v for k, v in predictions.items() if k not in found}
    open_references = [case_id for case_id in references if case_id not in found]
    by_bare_id = _by_bare_id(open_predictions)
    for bare_id, case_ids in _grouped(open_references).items():
        candidates = by_bare_id.get(bare_id, [])
        if candidates and (len(candidates) > 1 or len(case_ids) > 1):
            raise UsageError(
                f"cannot tell which prediction belongs to {', '.join(case_ids)}: "
                f"{', '.join(file.name for file in candidates)}",
                fix="name each prediction like its label file",
            )
        if candidates:
            found[case_ids[0]] = candidates[0]
    if not found:
        raise UsageError(
            f"no prediction matches a reference: predictions are named "
            f"{_some(predictions)}, references {_some(references)}",
            fix="name each prediction like its label file",
        )
    used = set(found.values())
    return Pairing(
        pairs=tuple(CasePair(c, found.get(c), references[c]) for c in sorted(references)),
        extra_predictions=tuple(sorted(f.name for f in predictions.values() if f not in used)),
    )


def bare_case_id(case_id: str) -> str:
    """A case id without what tools add to it: "liver_07_pred" becomes "liver_07"."""
    # nnU-Net numbers channels; a prediction that carries a number can only carry the first.
    bare_id = strip_role(strip_role(case_id).removesuffix("_0000"))
    return bare_id or case_id


def _grouped(case_ids: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for case_id in case_ids:
        groups.setdefault(bare_case_id(case_id), []).append(case_id)
    return groups


def _by_bare_id(predictions: Mapping[str, Path]) -> dict[str, list[Path]]:
    return {
        bare_id: [predictions[case_id] for case_id in case_ids]
        for bare_id, case_ids in _grouped(list(predictions)).items()
    }


def _some(files: Mapping[str, Path]) -> str:
    if not files:
        return "nothing (the folder holds no volume)"
    names = [files[case_id].name for case_id in sorted(files)]
    return some_of(names, _N_SHOWN)
