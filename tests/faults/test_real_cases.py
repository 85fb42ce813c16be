"""The same faults on copies of real cases: found there as well, and no false error beside them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_builders import (
    Fault,
    Found,
    Harmless,
    all_found,
    in_ras,
    label_file,
    recoded,
    relabel,
    run_audit,
)
from planted import anatomy, codes, cohorts, files, grids
from planted.harmless import HARMLESS

Place = Callable[[str], tuple[Path, Path]]

ALL_FAULTS = (*files.FAULTS, *grids.FAULTS, *codes.FAULTS, *anatomy.FAULTS, *cohorts.FAULTS)

# Faults that a hippocampus cannot have, or that are something else there.
ONLY_PHANTOMS = {
    "six slices": "a hippocampus cut to six slices is odd in many ways",
    "CT 1024 too high": "MR images",
    "normalized CT": "MR images",
    "CT in Hounsfield units": "MR images",
    "pixdim ten times too large": "voxels of 1 mm become 12 mm long, which is plausible",
    "label voxels mirrored": "with two classes G14 only warns",
    "label voxels upside down": "with two classes G14 only warns",
    "class often not drawn": "3 cases of 20 are not often",
    "many empty labels": "3 cases of 20 are not many",
    "image in the label folder": "the images hold few levels: D06 and E03 tell instead of E07",
    "another image in the label folder": "the images hold few levels: E03 tells instead of E07",
    "class of eight voxels": "no third class",
    "class in one fold only": "no third class",
    "lesion outside the liver": "no third class",
    "names of the sides exchanged": "no third class",
    "sides exchanged in one case": "no third class",
    "scan ends in a structure": "smaller images",
    "kidney on air": "crops without air",
    "one image with two labels": "both cases validate in one fold",
    "one case left": "more than six cases",
}
# Real cases differ in shape, so that a label of another case also fits badly.
TRUE_ERRORS = {"one label for two images": "G01"}


# Faults that are a warning there, with the reason.
WARNS = {
    "interpolated and rounded": "one structure is wrapped, and such a rim can be anatomy",
}


def _is_real(one: Fault | Harmless) -> bool:
    return one.base in {"small", "cohort"} and one.name not in ONLY_PHANTOMS


def _errors(found: Found) -> set[str]:
    return {check_id for check_id, severity in found if severity == "error"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*filter(_is_real, ALL_FAULTS)], ids=lambda fault: fault.name)
def test_fault_is_named_in_a_real_case(fault: Fault, place: Place) -> None:
    data, work = place("hippocampus")
    fault.inject(data)
    found = all_found(run_audit(data, work, fault.settings(data)))
    expected = fault.expected
    if fault.name in WARNS:
        expected = {(check_id, "warning") for check_id, _ in expected}
    assert expected <= found
    known = {i for i, _ in fault.expected} | fault.also | {TRUE_ERRORS.get(fault.name, "")}
    assert _errors(found) <= known


@pytest.mark.slow
@pytest.mark.parametrize("harmless", [*filter(_is_real, HARMLESS)], ids=lambda one: one.name)
def test_harmless_peculiarity_is_no_error_in_a_real_case(harmless: Harmless, place: Place) -> None:
    data, work = place("hippocampus")
    harmless.inject(data)
    assert _errors(all_found(run_audit(data, work, harmless.settings(data)))) == set()


def test_clean_hippocampus_subset_is_clean(place: Place) -> None:
    data, work = place("hippocampus")
    assert run_audit(data, work).verdict == "clean"


# Values of the parotids, exchanged.
OTHER_SIDE = {3: 4, 4: 3}


@pytest.mark.slow
def test_partial_labels_are_no_errors(place: Place) -> None:
    data, work = place("neck")
    found = all_found(run_audit(data, work))
    assert _errors(found) == set()
    assert ("E05", "warning") in found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inject", "expected"),
    [
        (lambda d: in_ras(label_file(d), lambda a: a[::-1]), {("G14", "error")}),
        (lambda d: in_ras(label_file(d), lambda a: a[:, ::-1]), {("G14", "error")}),
        (
            lambda d: relabel(d, recoded(OTHER_SIDE), 1),
            {("S10", "error")},
        ),
    ],
    ids=["mirrored", "back to front", "sides exchanged"],
)
def test_misplaced_structures_are_named_in_a_real_ct(
    inject: Callable[[Path], object], expected: Found, place: Place
) -> None:
    data, work = place("neck")
    inject(data)
    assert expected <= all_found(run_audit(data, work))
