"""How often a 95 % interval holds the truth: calibration of the intervals by simulation.

Scores are drawn from three made-up populations whose true mean is known: an organ that goes well, a
lesion class with 12 % misses, and a class at the ceiling with 3 % failures. A second table does the
same for paired differences of two runs, where the test's false alarms are counted as well.

OMP_NUM_THREADS=1 python benchmarks/coverage.py [--simulations 1000]
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import draw_resamples, mean_interval, t_interval
from pipeline.metrics.paired import paired_difference

Values = NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], Values]

SIZES = (10, 20, 50)
N_RESAMPLES = 2_000
N_TRUTH = 2_000_000


def organ(n: int, rng: np.random.Generator) -> Values:
    """Dice around 0.91, skewed to the left."""
    return rng.beta(20.0, 2.0, n)


def lesions(n: int, rng: np.random.Generator) -> Values:
    """Dice around 0.7 where found; 12 % are missed and count 0."""
    return np.where(rng.random(n) < 0.12, 0.0, rng.beta(7.0, 3.0, n))


def ceiling(n: int, rng: np.random.Generator) -> Values:
    """Dice around 0.99; 3 % fail and count 0."""
    return np.where(rng.random(n) < 0.03, 0.0, rng.beta(200.0, 2.0, n))


POPULATIONS: dict[str, Draw] = {
    "organ, beta(20, 2)": organ,
    "lesions, 12 % missed": lesions,
    "ceiling, 3 % failures": ceiling,
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1_000)
    n_simulations = parser.parse_args().simulations
    started_s = time.perf_counter()
    noise = 100 * 1.96 * np.sqrt(0.95 * 0.05 / n_simulations)
    print(f"{n_simulations} simulations a row, {N_RESAMPLES} resamples each; noise +-{noise:.1f} %")
    _print_coverage(n_simulations)
    _print_paired(n_simulations)
    print(f"{time.perf_counter() - started_s:.0f} s")


def _print_coverage(n_simulations: int) -> None:
    print("\nCoverage of the true mean by nominal 95 % intervals, in %")
    print(f"{'population':<24}{'n':>4}{'BCa':>7}{'percentile':>12}{'t':>7}{'no failure seen':>17}")
    for name, draw in POPULATIONS.items():
        truth = float(draw(N_TRUTH, np.random.default_rng(1)).mean())
        for n in SIZES:
            covered = np.zeros(3)
            n_without_failure = 0
            for simulation in range(n_simulations):
                rng = np.random.default_rng((simulation, n))
                values = draw(n, rng)
                n_without_failure += int(values.min() > 0)
                covered += [_holds(i, truth) for i in _intervals(values, rng)]
            shares = 100 * covered / n_simulations
            unseen = 100 * n_without_failure / n_simulations
            cells = f"{shares[0]:>7.1f}{shares[1]:>12.1f}{shares[2]:>7.1f}{unseen:>17.0f}"
            print(f"{name:<24}{n:>4}{cells}")


def _print_paired(n_simulations: int) -> None:
    print(
        "\nTwo runs of equal worth: coverage of 0 by the paired interval, false alarms at p <= .05"
    )
    print(f"{'population':<24}{'n':>4}{'BCa':>7}{'sign-flip alarms':>18}{'Wilcoxon alarms':>17}")
    for name, draw in POPULATIONS.items():
        for n in SIZES:
            n_covered = n_alarms = n_wilcoxon = 0
            for simulation in range(n_simulations // 4):
                rng = np.random.default_rng((simulation, n, 2))
                a, b = draw(n, rng)[:, np.newaxis], draw(n, rng)[:, np.newaxis]
                resamples = draw_resamples([str(i) for i in range(n)], n_resamples=500, rng=rng)
                found = paired_difference(a, b, resamples, is_higher_better=True, rng=rng)
                n_covered += _holds(found.ci95, 0.0)
                n_alarms += _is_alarm(found.p_sign_flip)
                n_wilcoxon += _is_alarm(found.p_wilcoxon)
            total = n_simulations // 4
            cells = (100 * n_covered / total, 100 * n_alarms / total, 100 * n_wilcoxon / total)
            print(f"{name:<24}{n:>4}{cells[0]:>7.1f}{cells[1]:>18.1f}{cells[2]:>17.1f}")


def _intervals(
    values: Values, rng: np.random.Generator
) -> tuple[tuple[float, float] | None, tuple[float, float], tuple[float, float] | None]:
    """BCa, percentile and t interval of the same values."""
    resamples = draw_resamples(
        [str(i) for i in range(values.size)], n_resamples=N_RESAMPLES, rng=rng
    )
    means = resamples.counts @ values / values.size
    low, high = np.quantile(means, (0.025, 0.975))
    bca = mean_interval(values[:, np.newaxis], resamples)
    return bca, (float(low), float(high)), t_interval(values[:, np.newaxis], resamples)


def _holds(interval: tuple[float, float] | None, truth: float) -> bool:
    return interval is not None and interval[0] <= truth <= interval[1]


def _is_alarm(p: float | None) -> bool:
    return p is not None and p <= 0.05


if __name__ == "__main__":
    main()
