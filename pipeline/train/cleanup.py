"""Choose clean-up rules on the predictions of the final validation, only where they help.

Cases come one at a time. Of each, only how large every piece and every pocket of a class is, and
how much of it the reference agrees with, is kept: enough to know the Dice after any rule.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt

from pipeline.artifacts import CaseRecord, CleanupRule, Task
from pipeline.core.errors import DataError
from pipeline.core.geometry import Spacing, spacing_of
from pipeline.core.task import map_label_values
from pipeline.io.store import open_array
from pipeline.transforms.clean import (
    class_boxes,
    is_kept_by,
    number_pieces,
    number_pockets,
    piece_sizes,
    voxel_volume_ml,
)

LabelMap = Integer[np.ndarray, "i j k"]
# Fewer cases with the class say nothing about the next one.
MIN_CASES = 5
# A gain in mean Dice below this is not worth a rule.
MIN_GAIN = 0.001
# Up to this share of a class outside its largest piece is a slip of the annotator; one reference
# with more means that the class comes in several pieces.
MAX_OUTSIDE_LARGEST = 0.01
# Limits for islands as shares of the smallest piece in any reference, so that none is as large.
ISLAND_SHARES = (1.0, 0.5, 0.1)
# Training references whose pieces are looked at, beside those of the validation cases.
MAX_TRAINING_REFERENCES = 30


@dataclass(frozen=True)
class Reference:
    """The reference of one case.

    Args:
        label: Class indices, shape (i, j, k); `task.ignore_index` is not scored.
        spacing_mm: Voxel spacing along i, j, k, in mm.
        unannotated: Classes it says nothing about.
    """

    label: LabelMap
    spacing_mm: Spacing
    unannotated: tuple[str, ...] = ()

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return voxel_volume_ml(self.spacing_mm)


def _none() -> Int64[np.ndarray, " n"]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class _Tally:
    """One class of one case: its predicted pieces and pockets, and what the reference says.

    Args:
        voxel_ml: Volume of a voxel.
        n_reference: Voxels of the class in the reference.
        n_voxels: Voxels of each piece.
        n_hits: Those of them that the reference confirms.
        n_misses: Those it contradicts; ignored voxels are neither.
        pocket_piece: Position of the piece around each pocket.
        n_pocket_hits: Voxels of each pocket that belong to the class.
        n_pocket_misses: Those that do not.
    """

    voxel_ml: float = 0.0
    n_reference: int = 0
    n_voxels: Int64[np.ndarray, " piece"] = field(default_factory=_none)
    n_hits: Int64[np.ndarray, " piece"] = field(default_factory=_none)
    n_misses: Int64[np.ndarray, " piece"] = field(default_factory=_none)
    pocket_piece: Int64[np.ndarray, " pocket"] = field(default_factory=_none)
    n_pocket_hits: Int64[np.ndarray, " pocket"] = field(default_factory=_none)
    n_pocket_misses: Int64[np.ndarray, " pocket"] = field(default_factory=_none)

    def dice(self, rules: Sequence[CleanupRule]) -> float | None:
        """Dice after the rules; None if the class is then in neither map."""
        is_kept = np.ones(self.n_voxels.size, dtype=np.bool_)
        for rule in rules:
            is_kept[is_kept] = is_kept_by(rule, self.n_voxels[is_kept], self.voxel_ml)
        n_true, n_false = int(self.n_hits[is_kept].sum()), int(self.n_misses[is_kept].sum())
        if any(rule.kind == "fill_holes" for rule in rules):
            is_filled = is_kept[self.pocket_piece]
            n_true += int(self.n_pocket_hits[is_filled].sum())
            n_false += int(self.n_pocket_misses[is_filled].sum())
        either = self.n_reference + n_true + n_false
        return 2 * n_true / either if either else None


@dataclass
class ReferencePieces:
    """What the references say about the pieces of one class.

    Args:
        smallest_ml: The smallest piece; None before the first.
        is_single: Whether nearly all of the class was always in one piece.
    """

    smallest_ml: float | None = None
    is_single: bool = True

    def add(self, n_voxels: Int64[np.ndarray, " piece"], voxel_ml: float) -> None:
        """Take in the pieces of one reference."""
        if not n_voxels.size:
            return
        smallest_ml = int(n_voxels.min()) * voxel_ml
        self.smallest_ml = min(smallest_ml, self.smallest_ml or smallest_ml)
        n_outside = int(n_voxels.sum() - n_voxels.max())
        if n_outside > MAX_OUTSIDE_LARGEST * int(n_voxels.sum()):
            self.is_single = False


@dataclass
class CleanupEvidence:
    """What was gathered of all cases, class by class; no array of a case is kept.

    Args:
        task: The classes.
        tallies: Predictions against references, by class index.
        pieces: Of the references, by class index.
    """

    task: Task
    tallies: dict[int, list[_Tally]] = field(default_factory=dict)
    pieces: dict[int, ReferencePieces] = field(default_factory=dict)

    def add_prediction(self, prediction: LabelMap, reference: Reference) -> None:
        """Take in a validation case.

        Args:
            prediction: Class indices on the grid of the reference, not cleaned.
            reference: Of the same case.
        """
        sizes = self.add_reference(reference)
        boxes = class_boxes(prediction, len(self.task.classes))
        for index in self._annotated(reference):
            n_reference = int(sizes[index].sum()) if index in sizes else 0
            if index in boxes:
                box, ignore_index = boxes[index], self.task.ignore_index
                tally = _tally(prediction[box], reference.label[box], index, ignore_index)
                tally = replace(tally, voxel_ml=reference.voxel_ml, n_reference=n_reference)
                self.tallies.setdefault(index, []).append(tally)
            elif n_reference:
                self.tallies.setdefault(index, []).append(_Tally(n_reference=n_reference))

    def add_reference(self, reference: Reference) -> dict[int, Int64[np.ndarray, "..."]]:
        """Take in how a reference is cut into pieces.

        Returns:
            Voxels of every piece, by index of the classes that occur.
        """
        boxes = class_boxes(reference.label, len(self.task.classes))
        sizes = {}
        for index in self._annotated(reference):
            if index in boxes:
                mask = reference.label[boxes[index]] == index
                sizes[index] = piece_sizes(number_pieces(mask))
                known = self.pieces.setdefault(index, ReferencePieces())
                known.add(sizes[index], reference.voxel_ml)
        return sizes

    def _annotated(self, reference: Reference) -> list[int]:
        return [c.index for c in self.task.classes if c.name not in reference.unannotated]


def read_reference(record: CaseRecord, task: Task, work_dir: Path) -> Reference:
    """Read the label of a case from the case store.

    Args:
        record: A case with a label.
        task: The classes.
        work_dir: Work folder.

    Returns:
        The reference on the source grid, RAS.

    Raises:
        DataError: If the case has no label.
    """
    if record.label is None:
        raise DataError("the case has no label", where=f"case {record.case_id}")
    label = map_label_values(np.asarray(open_array(work_dir, record.label)), task)
    return Reference(label, spacing_of(np.array(record.label.affine)), record.unannotated)


def evenly_spaced(records: Sequence[CaseRecord], n_most: int) -> Sequence[CaseRecord]:
    """At most so many records, from all over the list."""
    return records[:: -(-len(records) // n_most)] if records else ()


def choose_cleanup(evidence: CleanupEvidence) -> tuple[CleanupRule, ...]:
    """Choose the rules that the evidence speaks for.

    Per class: first keep the largest piece, but only if the class was in one piece in every
    reference; then remove islands, but none as large as the smallest piece of a reference; then
    fill holes. A rule is taken if at least MIN_CASES validation cases have the class, the mean Dice
    rises by MIN_GAIN, and no more cases get worse than better. Holes of all classes are filled
    last.

    Args:
        evidence: Gathered over the validation cases.

    Returns:
        Rules in the order they are to be applied.
    """
    rules = []
    for label_class in evidence.task.classes:
        tallies = evidence.tallies.get(label_class.index, [])
        if sum(tally.n_reference > 0 for tally in tallies) < MIN_CASES:
            continue
        pieces = evidence.pieces.get(label_class.index, ReferencePieces())
        rules += _rules_of_class(label_class.name, tallies, pieces)
    return tuple(sorted(rules, key=lambda rule: rule.kind == "fill_holes"))


def _rules_of_class(
    name: str, tallies: Sequence[_Tally], pieces: ReferencePieces
) -> list[CleanupRule]:
    taken: list[CleanupRule] = []
    for candidates in _candidates(name, pieces):
        judged = [_judged(candidate, taken, tallies) for candidate in candidates]
        helpful = [rule for rule in judged if rule is not None]
        if helpful:
            # Of equally good limits the smallest: it removes least.
            best = max(helpful, key=lambda rule: (rule.dice_after, -(rule.min_ml or 0.0)))
            taken.append(best)
    return taken


def _candidates(name: str, pieces: ReferencePieces) -> Iterator[list[CleanupRule]]:
    """Rules to try, one list per step; at most one rule of each is taken."""
    blank = CleanupRule(
        class_name=name, kind="fill_holes", dice_before=0.0, dice_after=0.0, n_cases=0
    )
    if pieces.is_single:
        yield [blank.model_copy(update={"kind": "keep_largest"})]
    if pieces.smallest_ml is not None:
        limits_ml = [share * pieces.smallest_ml for share in ISLAND_SHARES]
        yield [
            blank.model_copy(update={"kind": "remove_islands", "min_ml": limit_ml})
            for limit_ml in limits_ml
        ]
    yield [blank]


def _judged(
    candidate: CleanupRule, taken: Sequence[CleanupRule], tallies: Sequence[_Tally]
) -> CleanupRule | None:
    """The candidate with its numbers; None if it does not help after the rules already taken."""
    pairs = [(tally.dice(taken), tally.dice([*taken, candidate])) for tally in tallies]
    before = [b for b, _ in pairs if b is not None]
    after = [a for _, a in pairs if a is not None]
    if not before or not after:
        return None
    # A false alarm in a case without the class, taken away altogether, is undefined afterwards.
    n_better = sum(b is not None and (a is None or a > b) for b, a in pairs)
    n_worse = sum(a is not None and b is not None and a < b for b, a in pairs)
    mean_before, mean_after = float(np.mean(before)), float(np.mean(after))
    if mean_after - mean_before < MIN_GAIN or n_worse > n_better:
        return None
    return candidate.model_copy(
        update={"dice_before": mean_before, "dice_after": mean_after, "n_cases": len(tallies)}
    )


def _tally(
    label: LabelMap, reference: LabelMap, class_index: int, ignore_index: int | None
) -> _Tally:
    """Count pieces and pockets of one predicted class, inside its box."""
    is_hit = reference == class_index
    is_miss = ~is_hit if ignore_index is None else ~is_hit & (reference != ignore_index)
    pieces = number_pieces(label == class_index)
    n_voxels = piece_sizes(pieces)
    pockets = number_pockets(label, class_index)
    numbers, owners = _pocket_owners(pockets, pieces)
    n_pockets = int(numbers.max(initial=0)) + 1
    return _Tally(
        n_voxels=n_voxels,
        n_hits=_counts(pieces, is_hit, n_voxels.size + 1)[1:],
        n_misses=_counts(pieces, is_miss, n_voxels.size + 1)[1:],
        pocket_piece=owners - 1,
        n_pocket_hits=_counts(pockets, is_hit, n_pockets)[numbers],
        n_pocket_misses=_counts(pockets, is_miss, n_pockets)[numbers],
    )


def _counts(
    numbers: UInt[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], n_numbers: int
) -> Int64[np.ndarray, " n"]:
    """Voxels of each number inside a mask."""
    return np.bincount(numbers[mask], minlength=n_numbers).astype(np.int64)


def _pocket_owners(
    pockets: UInt[np.ndarray, "i j k"], pieces: UInt[np.ndarray, "i j k"]
) -> tuple[Int64[np.ndarray, " pocket"], Int64[np.ndarray, " pocket"]]:
    """Number of each pocket, and number of the piece around it."""
    i, j, k = np.nonzero(pockets)
    numbers, first = np.unique(pockets[i, j, k], return_index=True)
    # nonzero runs through i first: below the first voxel of a pocket lies what encloses it.
    owners = pieces[i[first] - 1, j[first], k[first]]
    return numbers.astype(np.int64), owners.astype(np.int64)
