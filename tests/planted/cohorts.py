"""Family D: faults between cases."""

import json
import shutil
from pathlib import Path

import numpy as np
from fault_builders import (
    QUICK,
    Array,
    Fault,
    case_numbers,
    copy_case,
    image_file,
    label_file,
    read,
    recoded,
    relabel,
    repaint,
    rewrite,
    write_csv,
)
from phantoms import write_nifti
from planted.files import truncate
from sklearn.model_selection import KFold

from pipeline.audit.config import NNUNET_SPLIT_SEED, AuditConfig, GroupConfig


def nnunet_folds(_: Path) -> AuditConfig:
    """The folds of nnU-Net, which know nothing about the cases."""
    return QUICK.model_copy(update={"split": "nnunet"})


def two_folds(_: Path) -> AuditConfig:
    """Two folds of nnU-Net's kind."""
    return QUICK.model_copy(update={"split": "nnunet", "n_folds": 2})


def with_table(folder: Path) -> AuditConfig:
    """Patients and sites as the table beside the dataset says."""
    groups = GroupConfig(file=folder.parent / "groups.csv")
    return QUICK.model_copy(update={"split": "nnunet", "groups": groups})


def with_pattern_of_others(_: Path) -> AuditConfig:
    """A pattern for patient names that no case has."""
    return QUICK.model_copy(update={"groups": GroupConfig(pattern="^(patient[0-9]+)_")})


def validation_cases(n_cases: int, n_folds: int, fold: int) -> list[int]:
    """Numbers of the cases that validate in one of nnU-Net's folds."""
    folds = KFold(n_folds, shuffle=True, random_state=NNUNET_SPLIT_SEED)
    return [int(n) for n in list(folds.split(np.arange(n_cases)))[fold][1]]


def near_copy(folder: Path) -> None:
    """One scan again under another id: noisier, on another scale, drawn by another hand."""
    image, affine = read(image_file(folder, 0))
    noise = np.random.default_rng(0).normal(0, 5, image.shape)
    write_nifti(image_file(folder, 4), (1.2 * image + noise).astype(np.int16), affine)
    shutil.copy(label_file(folder, 0), label_file(folder, 4))
    relabel(folder, recoded_once, 4)


def recoded_once(label: Array) -> Array:
    """A label that differs in one voxel."""
    changed = label.copy()
    place = tuple(np.argwhere(label == 1)[0])
    changed[place] = 0
    return changed


def visits(folder: Path) -> None:
    """Two visits of every patient, as a table tells."""
    rows = ((f"case_{n:03d}", f"patient_{n // 2}") for n in case_numbers(folder))
    write_csv(folder, "case_id,group", rows)


def name_visits(folder: Path) -> None:
    """Case ids that speak of visits, and nothing that says so."""
    for number in case_numbers(folder):
        name = f"pat{number // 2:03d}_v{number % 2}.nii.gz"
        image_file(folder, number).rename(folder / "imagesTr" / name)
        label_file(folder, number).rename(folder / "labelsTr" / name)
    content = json.loads((folder / "dataset.json").read_text())
    names = sorted(file.name for file in (folder / "labelsTr").iterdir())
    content["training"] = [
        {"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names
    ]
    (folder / "dataset.json").write_text(json.dumps(content))


def one_fold_knows(folder: Path) -> None:
    """Only the validation cases of one fold show class 3."""
    showing = set(validation_cases(12, 5, 3))
    relabel(folder, recoded({3: 0}), *(set(case_numbers(folder)) - showing))


def drift(folder: Path) -> None:
    """One half of the cases, by fold, comes from a scanner with another scale."""
    repaint(folder, lambda a: (a * 2).astype(a.dtype), *validation_cases(40, 2, 0))


def swap_channels(folder: Path) -> None:
    """The two channel files of a case stand in for each other."""
    first, second = (image_file(folder, 1, channel) for channel in (0, 1))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def sites(folder: Path) -> None:
    """The second site did not draw class 2."""
    rows = ((f"case_{n:03d}", "north" if n < 20 else "south") for n in case_numbers(folder))
    write_csv(folder, "case_id,site", rows)
    relabel(folder, recoded({2: 0}), *range(20, 40))


FAULTS = (
    Fault("one image twice", lambda d: copy_case(d, 0, 3), {("D01", "error")}),
    Fault(
        "one image with two labels",
        lambda d: shutil.copy(image_file(d, 0), image_file(d, 2)),
        {("D01", "error")},
        also=frozenset({"G13", "G14"}),
    ),
    Fault(
        "one label for two images",
        lambda d: shutil.copy(label_file(d, 0), label_file(d, 2)),
        {("D02", "error")},
    ),
    Fault("nearly one image twice", near_copy, {("D03", "error")}),
    Fault(
        "patients in several folds",
        visits,
        {("D04", "error")},
        settings=with_table,
    ),
    Fault(
        "groups that match nothing",
        lambda d: None,
        {("D04", "warning")},
        settings=with_pattern_of_others,
    ),
    Fault("ids that look like visits", name_visits, {("D04", "info")}),
    Fault(
        "one case left",
        lambda d: [truncate(image_file(d, n)) for n in range(5)],
        {("D05", "error"), ("F03", "error")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "class in one fold only",
        one_fold_knows,
        {("D05", "error"), ("E05", "warning")},
        also=frozenset({"S02"}),
        base="cohort",
        settings=nnunet_folds,
    ),
    Fault(
        "class in four cases",
        lambda d: relabel(d, recoded({2: 0}), *range(4, 40)),
        {("D05", "warning"), ("E05", "warning")},
        also=frozenset({"S02"}),
        base="crowd",
        settings=two_folds,
    ),
    Fault(
        "label is the image",
        lambda d: rewrite(image_file(d), lambda a: read(label_file(d))[0].astype(a.dtype)),
        {("D06", "error")},
    ),
    Fault("scanner by fold", drift, {("D07", "warning")}, base="crowd", settings=two_folds),
    Fault("channels exchanged", swap_channels, {("D08", "warning")}, base="channels"),
    Fault(
        "site decides what is drawn",
        sites,
        {("D09", "info"), ("E05", "warning")},
        base="crowd",
        settings=with_table,
    ),
)
