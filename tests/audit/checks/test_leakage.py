from pathlib import Path

import numpy as np
import pytest
from audit_builders import dataset, image_of, label_of, record, row, view

from pipeline.artifacts import Fold, Splits
from pipeline.audit.checks.leakage import check_label_is_image, check_patients
from pipeline.audit.config import AuditConfig, GroupConfig
from pipeline.audit.groups import find_groups

CONFIG = AuditConfig()


def cohort(case_ids, folds=(), groups=None, sites=None):
    known = record(label_of())
    cases = [known.model_copy(update={"case_id": i}) for i in case_ids]
    splits = Splits(
        method="any",
        seed=1,
        folds=tuple(Fold(train=(), validation=fold) for fold in folds),
        groups=groups or {},
        sites=sites or {},
    )
    seen = dataset([row(i, (5, 5)) for i in case_ids], cases)
    return type(seen)(seen.manifest, seen.rows, splits)


def test_a_label_that_is_the_image_is_named():
    image = image_of((10, 12, 14))
    (finding,) = check_label_is_image(view(image[0].copy(), image), CONFIG)
    assert (finding.check_id, finding.severity) == ("D06", "error")


def test_a_second_channel_in_the_place_of_the_label_is_named():
    image = np.concatenate([image_of((10, 12, 14), seed=s) for s in (1, 2)])
    assert check_label_is_image(view(image[1].astype(np.float64), image), CONFIG)


def test_other_labels_are_not():
    image = image_of((10, 12, 14))
    one_voxel_off = image[0].copy()
    one_voxel_off[0, 0, 0] += 1
    assert check_label_is_image(view(one_voxel_off, image), CONFIG) == []
    assert check_label_is_image(view(label_of(), image), CONFIG) == []
    both_empty = np.zeros((10, 12, 14), dtype=np.uint8)
    assert check_label_is_image(view(both_empty, both_empty[None].astype(float)), CONFIG) == []
    assert check_label_is_image(view(label_of((9, 12, 14)), image), CONFIG) == []


def test_a_patient_in_two_folds_is_an_error():
    groups = {"a1": "a", "a2": "a", "b1": "b"}
    seen = cohort(["a1", "a2", "b1"], [("a1",), ("a2", "b1")], groups)
    (finding,) = check_patients(seen, CONFIG)
    assert (finding.check_id, finding.severity, finding.value) == ("D04", "error", 1)
    assert finding.case_id == "a1"
    together = cohort(["a1", "a2", "b1"], [("a1", "a2"), ("b1",)], groups)
    assert check_patients(together, CONFIG) == []


VISITS = [
    ("P01_1", "P01_2", "P02_1", "P02_2"),
    ("P01_20200131", "P01_20210131", "P02_20200131", "P02_20211130"),
    ("x1_2020-01-31", "x1_2020-02-01", "x2_2020-01-31", "x2_2020-02-01"),
    ("12_pre", "12_post", "13_pre", "13_post"),
    ("pat7-ses1", "pat7-ses2", "pat8-ses1", "pat8-ses2"),
    ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00005-000", "BraTS-GLI-00005-001"),
]


@pytest.mark.parametrize("case_ids", VISITS)
def test_ids_that_look_like_visits_are_told_with_a_pattern_that_works(case_ids):
    (finding,) = check_patients(cohort(case_ids), CONFIG)
    assert (finding.check_id, finding.severity, finding.value) == ("D04", "info", 2)
    config = GroupConfig(pattern=finding.fix.split("'")[1])
    groups = find_groups(cohort(case_ids).manifest.cases, config).groups
    assert [groups[i] for i in case_ids] == [groups[case_ids[0]]] * 2 + [groups[case_ids[2]]] * 2
    assert len(set(groups.values())) == 2


SERIES = [
    tuple(f"case_{n:03d}" for n in range(30)),
    tuple(f"BRATS2021_{n:03d}" for n in range(30)),
    tuple(f"ct{n}" for n in range(30)),
    tuple(f"site{s}_{n:02d}" for s in (1, 2, 3) for n in range(40)),
    ("liver_1", "liver_2", "kidney_1", "kidney_2"),
    ("P1_1", "P2_1", "P3_1"),
]


@pytest.mark.parametrize("case_ids", SERIES)
def test_numbered_series_are_no_visits(case_ids):
    assert check_patients(cohort(case_ids), CONFIG) == []


def test_known_patients_need_no_hint():
    ids = ["P01_1", "P01_2", "P02_1", "P02_2"]
    seen = cohort(ids, [("P01_1", "P01_2"), ("P02_1", "P02_2")], {i: i[:3] for i in ids})
    assert check_patients(seen, CONFIG) == []


def test_a_pattern_that_fits_nothing_is_a_warning():
    config = AuditConfig(groups=GroupConfig(pattern="^patient([0-9]+)"))
    (finding,) = check_patients(cohort(["p1_a", "p1_b"]), config)
    assert (finding.check_id, finding.severity) == ("D04", "warning")
    assert "p1_a" in finding.fix


def test_a_file_that_tells_only_sites_is_no_mistake():
    config = AuditConfig(groups=GroupConfig(file=Path("sites.csv")))
    assert check_patients(cohort(["a", "b"], sites={"a": "Bern"}), config) == []
    (finding,) = check_patients(cohort(["a", "b"]), config)
    assert "sites.csv" in finding.message


def test_a_dataset_of_one_patient_is_an_error():
    seen = cohort(["p_1", "p_2"], [], {"p_1": "p", "p_2": "p"})
    (finding,) = check_patients(seen, CONFIG)
    assert (finding.check_id, finding.severity) == ("D04", "error")
    assert "'p'" in finding.message
