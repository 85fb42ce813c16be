"""Does it work equally well for everybody: the same averages within groups of cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.artifacts import Summary
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.scores import CaseScores

# Case id to column to value, as a table of case attributes says.
Attributes = Mapping[str, Mapping[str, str]]

NOT_GIVEN = "(not given)"
# A column of numbers with more different values than this is cut into thirds.
MAX_DISTINCT_NUMBERS = 6


@dataclass(frozen=True)
class Subgroup:
    """Cases that share a value of one attribute.

    Args:
        column: The attribute, such as "sex".
        value: Its value, or a range such as "54 to 71".
        summary: Averages over these cases alone.
    """

    column: str
    value: str
    summary: Summary


def summarize_subgroups(  # noqa: PLR0913  # the last four have defaults
    cases: Sequence[CaseScores],
    attributes: Attributes,
    class_names: Sequence[str],
    *,
    policy: str = "strict",
    n_bootstrap: int = 10_000,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> tuple[Subgroup, ...]:
    """Average scores within groups of cases.

    Args:
        cases: Scored cases.
        attributes: What is known about each case; a case without a value forms a group with the
            others that have none, so that nobody drops out of sight.
        class_names: Foreground classes in index order.
        policy: As in `summarize`.
        n_bootstrap: As in `summarize`.
        seed: As in `summarize`.
        groups: As in `summarize`.

    Returns:
        Groups in the order of the columns, values in natural order.
    """
    columns = dict.fromkeys(column for row in attributes.values() for column in row)
    found = []
    for column in columns:
        values = [attributes.get(c.case_id, {}).get(column, "").strip() for c in cases]
        for name, places in _groups_of(values):
            members = [cases[place] for place in places]
            summary = summarize(
                members,
                class_names,
                policy=policy,
                n_bootstrap=n_bootstrap,
                seed=seed,
                groups=groups,
            )
            found.append(Subgroup(column, name, summary))
    return tuple(found)


def _groups_of(values: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Names of the groups of a column, each with the places of its cases."""
    given = {value for value in values if value}
    numbers = {value: number for value in given if (number := _number(value)) is not None}
    if len(numbers) == len(given) > MAX_DISTINCT_NUMBERS:
        names = _thirds(values, numbers)
    else:
        names = [value or NOT_GIVEN for value in values]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)

    def key(item: tuple[str, list[int]]) -> tuple[bool, float, str]:
        lowest = min((numbers[values[p]] for p in item[1] if values[p] in numbers), default=0.0)
        return item[0] == NOT_GIVEN, lowest, item[0]

    return sorted(places.items(), key=key)


def _thirds(values: Sequence[str], numbers: Mapping[str, float]) -> list[str]:
    """Name the third of the cases that every value falls into by its range."""
    known = np.array([numbers[value] for value in values if value])
    bounds = np.quantile(known, (1 / 3, 2 / 3))
    names = []
    for value in values:
        if not value:
            names.append(NOT_GIVEN)
            continue
        third = np.searchsorted(bounds, known) == np.searchsorted(bounds, numbers[value])
        names.append(f"{known[third].min():g} to {known[third].max():g}")
    return names


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
