"""Folds of whole groups that are alike in size, class presence and class volume."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Volumes = Mapping[str, Mapping[str, float]]

# The cases are dealt out this often in different order; more than a few thousand groups balance
# well at the first go.
_MAX_TRIES = 20
_MAX_STEPS = 20_000
# Costs that differ by less are equal: the order of a sum must not decide.
_DECIMALS = 9


@dataclass(frozen=True)
class _Profiles:
    """What is balanced, one row per group; the columns are divided by their mean over folds.

    Args:
        shares: Cases, and cases that show a class, as shares of what one fold should get.
        volumes: Standardized log volume of each class, summed over the cases that show it.
    """

    shares: Float[np.ndarray, "group count"]
    volumes: Float[np.ndarray, "group class_"]


def stratified_folds(
    members: Mapping[str, Sequence[str]], volumes_ml: Volumes, n_folds: int, seed: int
) -> list[set[str]]:
    """Deal whole groups to folds, largest first, each to the fold that lacks it most.

    Among equally large groups those with rare classes go first. A group goes where its cases and
    classes are least represented so far; class volumes decide between equals. The best of several
    seeded orders is kept.

    Args:
        members: Group to its cases.
        volumes_ml: Case to class to volume in ml; 0 or missing means that the class is absent.
        n_folds: Number of folds, at most the number of groups.
        seed: Decides the order among equals.

    Returns:
        The cases of each fold; no fold is empty.
    """
    names = sorted(members)
    profiles = _profiles([members[name] for name in names], volumes_ml, n_folds)
    rng = np.random.default_rng(seed)
    n_tries = max(1, min(_MAX_TRIES, _MAX_STEPS // len(names)))
    tries = [_deal(profiles, n_folds, rng) for _ in range(n_tries)]
    best = min(tries, key=lambda folds: _imbalance(profiles, folds, n_folds))
    chosen: list[set[str]] = [set() for _ in range(n_folds)]
    for name, fold in zip(names, best, strict=True):
        chosen[int(fold)].update(members[name])
    return chosen


def _profiles(groups: Sequence[Sequence[str]], volumes_ml: Volumes, n_folds: int) -> _Profiles:
    cases = [case for group in groups for case in group]
    classes = sorted({name for case in cases for name in volumes_ml.get(case, {})})
    counts = [[float(len(group)) for group in groups]]
    volumes = [np.zeros(len(groups))]
    for name in classes:
        present = {case for case in cases if volumes_ml.get(case, {}).get(name, 0.0) > 0}
        if not present:
            continue
        if len(present) < len(cases):
            counts.append([float(sum(case in present for case in group)) for group in groups])
        scores = _standard_scores({case: volumes_ml[case][name] for case in sorted(present)})
        volumes.append(np.array([sum(scores.get(case, 0.0) for case in g) for g in groups]))
    table = np.array(counts).T
    return _Profiles(table * n_folds / table.sum(axis=0), np.array(volumes).T)


def _standard_scores(volumes_ml: Mapping[str, float]) -> dict[str, float]:
    logs = np.array([math.log(volume) for volume in volumes_ml.values()])
    spread = float(logs.std()) or 1.0
    scores = (logs - logs.mean()) / spread
    return {case: float(score) for case, score in zip(volumes_ml, scores, strict=True)}


def _deal(profiles: _Profiles, n_folds: int, rng: np.random.Generator) -> Int[np.ndarray, " group"]:
    shares, volumes = profiles.shares, profiles.volumes
    rarity = shares.sum(axis=1).round(_DECIMALS)
    sizes = shares[:, 0].round(_DECIMALS)
    # Unusual volumes first, so that ordinary ones can make up for them; a try differs by the luck.
    luck = rng.uniform(0.5, 1.0, len(shares))
    unusual = np.abs(volumes).sum(axis=1) * luck
    order = np.lexsort((luck, -unusual, -rarity, -sizes))
    filled = np.zeros((n_folds, shares.shape[1]))
    weight = np.zeros((n_folds, volumes.shape[1]))
    folds = np.zeros(len(shares), dtype=np.int64)
    for group in order:
        # The increase of the summed squares of what the folds hold, but for a constant.
        crowding = (filled @ shares[group]).round(_DECIMALS)
        leaning = (weight @ volumes[group]).round(_DECIMALS)
        fold = int(np.lexsort((leaning, crowding))[0])
        folds[group] = fold
        filled[fold] += shares[group]
        weight[fold] += volumes[group]
    return folds


def _imbalance(
    profiles: _Profiles, folds: Int[np.ndarray, " group"], n_folds: int
) -> tuple[float, float]:
    counts, volumes = (
        sum(float((table[folds == fold].sum(axis=0) ** 2).sum()) for fold in range(n_folds))
        for table in (profiles.shares, profiles.volumes)
    )
    return round(counts, _DECIMALS), volumes
