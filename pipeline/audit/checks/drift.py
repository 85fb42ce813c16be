"""Whether parts of a dataset differ: folds from each other (D07), sites in their labels (D09)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from pipeline.artifacts import CaseFingerprint, Finding, Task
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.cohort import CohortLimits
from pipeline.audit.view import DatasetView

_MM3_PER_ML = 1000.0
# Two constant but different sides have no finite effect size.
_MAX_EFFECT = 99.0


@dataclass(frozen=True)
class _Comparison:
    """One quantity in training and validation of one fold."""

    fold: int
    quantity: str
    class_name: str | None
    training: Float[np.ndarray, " t"]
    validation: Float[np.ndarray, " v"]

    @property
    def effect(self) -> float:
        """Difference of the means in pooled standard deviations."""
        difference = float(self.validation.mean() - self.training.mean())
        spread = float(np.sqrt((self.validation.var() + self.training.var()) / 2))
        if spread == 0:
            return 0.0 if difference == 0 else _MAX_EFFECT * float(np.sign(difference))
        return float(np.clip(difference / spread, -_MAX_EFFECT, _MAX_EFFECT))

    @property
    def p(self) -> float:
        """Two-sided p of the test of Kolmogorov and Smirnov."""
        return float(stats.ks_2samp(self.training, self.validation, method="asymp").pvalue)


def check_drift(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D07: validation cases of a fold that differ from its training cases."""
    limits = config.cohort
    comparisons = list(_comparisons(dataset, limits.min_drift_cases))
    adjusted = _holm([comparison.p for comparison in comparisons])
    return [
        _drift(comparison, p, limits)
        for comparison, p in zip(comparisons, adjusted, strict=True)
        if p < limits.max_drift_p and abs(comparison.effect) > limits.min_drift_effect
    ]


def _comparisons(dataset: DatasetView, min_cases: int) -> Iterator[_Comparison]:
    cases = {row.case_id: row.fingerprint for row in dataset.rows if row.fingerprint is not None}
    tables = list(_quantities(cases, dataset.manifest.task))
    for number, fold in enumerate(dataset.splits.folds):
        for quantity, class_name, values in tables:
            training = np.array([values[i] for i in fold.train if i in values])
            validation = np.array([values[i] for i in fold.validation if i in values])
            if min(training.size, validation.size) >= min_cases:
                yield _Comparison(number, quantity, class_name, training, validation)


def _quantities(
    cases: Mapping[str, CaseFingerprint], task: Task
) -> Iterator[tuple[str, str | None, dict[str, float]]]:
    """What is compared: words, class, and the value of each case that has one."""
    for axis, name in enumerate("RAS"):
        spacing = {i: float(np.log(case.spacing_mm[axis])) for i, case in cases.items()}
        yield f"spacing along {name}", None, spacing
    for channel, described in enumerate(task.channels):
        means = {i: c.foreground[channel].mean for i, c in cases.items() if c.foreground}
        yield f"mean intensity of {described.name} in the foreground", None, means
    for position, name in enumerate(task.class_names):
        volumes = {
            i: float(np.log(case.n_class_voxels[position] * np.prod(case.spacing_mm) / _MM3_PER_ML))
            for i, case in cases.items()
            if case.n_class_voxels[position] > 0
        }
        yield f"volume of '{name}'", name, volumes


def _holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number, step by step from the smallest (Holm 1979)."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, n in enumerate(sorted(range(len(p_values)), key=lambda n: p_values[n])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = highest
    return adjusted


def _drift(comparison: _Comparison, p: float, limits: CohortLimits) -> Finding:
    return Finding(
        check_id="D07",
        severity="warning",
        class_name=comparison.class_name,
        value=round(comparison.effect, 3),
        threshold=limits.min_drift_effect,
        message=f"fold {comparison.fold}: {comparison.quantity} differs between training and "
        f"validation cases by {comparison.effect:+.2f} standard deviations (p {p:.1e} after Holm); "
        "its score tells of other cases than it was trained on",
        fix="split by audit.split: stratified, or find out what sets these cases apart",
        evidence={"fold": comparison.fold, "p": p},
    )


def check_sites(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D09: the site tells whether a class is labelled."""
    sites, limits = dataset.splits.sites, config.cohort
    known = [row for row in dataset.rows if row.case_id in sites and sum(row.n_class_voxels) > 0]
    findings = []
    for position, name in enumerate(dataset.manifest.task.class_names):
        rows = [row for row in known if name not in row.unannotated]
        if len(rows) < limits.min_site_cases:
            continue
        is_present = np.array([row.n_class_voxels[position] > 0 for row in rows])
        counts = _count_by_site([sites[row.case_id] for row in rows], is_present)
        strength = _cramers_v(counts)
        if strength > limits.max_site_association:
            findings.append(_confounded(name, counts, strength, limits))
    return findings


def _count_by_site(
    sites: Sequence[str], is_present: Bool[np.ndarray, " case"]
) -> dict[str, tuple[int, int]]:
    """Cases with and without the class, by site."""
    counts = {}
    for site in sorted(set(sites)):
        here = is_present[np.array([s == site for s in sites])]
        counts[site] = (int(here.sum()), int((~here).sum()))
    return counts


def _cramers_v(counts: Mapping[str, tuple[int, int]]) -> float:
    """Association of site and presence, 0 to 1, corrected for small samples (Bergsma 2013)."""
    table = np.array(list(counts.values()), dtype=np.float64)
    n = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    if len(table) < 2 or not np.all(expected > 0):
        return 0.0
    phi2 = ((table - expected) ** 2 / expected).sum() / n
    n_rows, n_columns = table.shape
    phi2 = max(0.0, phi2 - (n_rows - 1) * (n_columns - 1) / (n - 1))
    rows, columns = (k - (k - 1) ** 2 / (n - 1) for k in (n_rows, n_columns))
    smaller = min(rows, columns) - 1
    return float(min(1.0, np.sqrt(phi2 / smaller))) if smaller > 0 else 0.0


def _confounded(
    name: str, counts: Mapping[str, tuple[int, int]], strength: float, limits: CohortLimits
) -> Finding:
    listed = ", ".join(f"{site} {a} of {a + b}" for site, (a, b) in list(counts.items())[:6])
    return Finding(
        check_id="D09",
        severity="info",
        class_name=name,
        value=round(strength, 3),
        threshold=limits.max_site_association,
        message=f"the site decides whether '{name}' is labelled: {listed} (Cramer's V "
        f"{strength:.2f}); a network can learn the scanner instead of the structure",
        fix="make sure that it was looked for at every site, and report scores by site",
    )
