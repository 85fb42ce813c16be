"""D03: images that are nearly the same, found by thumbnails of their gray value ranks."""

import base64
import binascii
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.artifacts import Finding
from pipeline.audit.checks.robust import robust_center
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import DatasetView
from pipeline.core.text import some_of

Pair = tuple[int, int, float]

_MAX_NAMED = 5
# One pair alone cannot stand out.
_MIN_CASES = 3
_THUMBNAIL_BYTES = 16**3
# Rows of the correlation matrix that are held at once.
_BLOCK_ROWS = 512
# The spread of all pairs is known well enough from this many cases.
_MAX_REFERENCE_CASES = 1000
# Floor of the spread of Fisher's z: in a cohort of registered scans all pairs are alike.
_MIN_FISHER_MAD = 0.1
_MAX_CORRELATION = 1 - 1e-9


def check_near_duplicates(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D03: two images that are nearly the same; an error if they are on both sides of a fold."""
    case_ids, thumbnails = _thumbnails(dataset)
    if len(case_ids) < _MIN_CASES:
        return []
    threshold = _twin_threshold(thumbnails, config)
    contents = {c.case_id: c.image.content_hash for c in dataset.manifest.cases if c.image}
    groups = dataset.splits.groups
    pairs = [
        (a, b, r)
        for a, b, r in _pairs_above(thumbnails, threshold)
        if contents[case_ids[a]] != contents[case_ids[b]]
        and (case_ids[a] not in groups or groups[case_ids[a]] != groups.get(case_ids[b]))
    ]
    return [
        _near_duplicate(dataset, [case_ids[n] for n in family], r, threshold)
        for family, r in _families(pairs, len(case_ids))
    ]


def _thumbnails(dataset: DatasetView) -> tuple[list[str], Float[np.ndarray, "case voxel"]]:
    """Thumbnails of channel 0 with mean 0 and length 1; cases without or of one value left out."""
    case_ids, vectors = [], []
    for row in dataset.rows:
        vector = _decode(row.measures.channels[0].thumbnail) if row.measures.channels else None
        if vector is not None:
            case_ids.append(row.case_id)
            vectors.append(vector)
    empty = np.zeros((0, _THUMBNAIL_BYTES), dtype=np.float32)
    return case_ids, np.stack(vectors) if vectors else empty


def _decode(thumbnail: str) -> Float[np.ndarray, " voxel"] | None:
    try:
        ranks = np.frombuffer(base64.b64decode(thumbnail, validate=True), dtype=np.uint8)
    except binascii.Error:
        return None
    if ranks.size != _THUMBNAIL_BYTES:
        return None
    centered = ranks.astype(np.float32) - np.float32(ranks.mean())
    length = float(np.linalg.norm(centered))
    return centered / np.float32(length) if length > 0 else None


def _twin_threshold(thumbnails: Float[np.ndarray, "case voxel"], config: AuditConfig) -> float:
    """The correlation that a pair must exceed: high as such, and far from what pairs here show.

    Tight crops of one organ correlate highly without being copies, hence the second condition. It
    is taken on Fisher's z, which spreads correlations near 1.
    """
    step = -(-len(thumbnails) // _MAX_REFERENCE_CASES)
    some = thumbnails[::step]
    pairs = (some @ some.T)[np.triu_indices(len(some), 1)].astype(np.float64)
    fisher = np.arctanh(pairs.clip(-_MAX_CORRELATION, _MAX_CORRELATION))
    median, spread = robust_center(fisher, _MIN_FISHER_MAD)
    outlying = float(np.tanh(median + config.cohort.min_twin_robust_z * spread))
    return max(config.cohort.min_twin_correlation, outlying)


def _pairs_above(thumbnails: Float[np.ndarray, "case voxel"], threshold: float) -> Iterator[Pair]:
    """Every pair of rows (first < second) that correlates more than the threshold."""
    for start in range(0, len(thumbnails), _BLOCK_ROWS):
        block = thumbnails[start : start + _BLOCK_ROWS] @ thumbnails[start:].T
        for a, b in np.argwhere(np.triu(block, 1) > threshold):
            yield start + int(a), start + int(b), min(1.0, float(block[a, b]))


def _families(pairs: list[Pair], n_cases: int) -> list[tuple[list[int], float]]:
    """Cases that near copies connect, each family with its highest correlation."""
    if not pairs:
        return []
    first, second, _ = zip(*pairs, strict=True)
    links = coo_array((np.ones(len(pairs)), (first, second)), shape=(n_cases, n_cases))
    _, labels = connected_components(links, directed=False)
    highest: dict[int, float] = {}
    for a, _, correlation in pairs:
        family = int(labels[a])
        highest[family] = max(correlation, highest.get(family, correlation))
    return [([int(n) for n in np.flatnonzero(labels == f)], r) for f, r in highest.items()]


def _near_duplicate(
    dataset: DatasetView, case_ids: list[str], correlation: float, threshold: float
) -> Finding:
    folds_of = {i: n for n, fold in enumerate(dataset.splits.folds) for i in fold.validation}
    is_leak = len({folds_of[i] for i in case_ids if i in folds_of}) > 1
    named = some_of(case_ids, _MAX_NAMED)
    message = (
        f"{named} hold nearly the same image (rank correlation of the thumbnails "
        f"{correlation:.4f}), as a resampled, rescaled or noisy copy would"
    )
    message += "; one would be trained on while another validates" if is_leak else ""
    return Finding(
        check_id="D03",
        severity="error" if is_leak else "warning",
        case_id=case_ids[0],
        value=round(correlation, 6),
        threshold=round(threshold, 6),
        message=message,
        fix="compare them; leave out all but one, or, if they are scans of one patient, give them "
        "one group in audit.groups so that they stay in one fold",
        evidence={"same_as": ", ".join(case_ids[1:])},
    )
