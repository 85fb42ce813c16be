"""Checks over all cases: families D, and those of F, G and E that need the whole dataset."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from pipeline.artifacts import CaseRecord, Finding
from pipeline.audit.checks.files import finding_of_problem
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import DatasetView
from pipeline.core.text import some_of

_MAX_NAMED_CASES = 5
_MAX_NAMED_CLASSES = 20
# More classes of one fate are one finding.
_MAX_SINGLE_ABSENT = 5
_MAX_SINGLE_LONE = 3
# What painting tools write for "yes" when they mean an 8-bit picture.
_PICTURE_VALUES = frozenset({127, 128, 254, 255})


def check_unpaired(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """F01: files without a partner, as ingest found them."""
    return [finding_of_problem(problem, None) for problem in dataset.manifest.problems]


def check_label_types(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """F08: label files that use a wide or floating type for small integers."""
    types = Counter(
        record.label_file.dtype
        for record in dataset.manifest.cases
        if record.label_file is not None and record.label_file.dtype not in {"uint8", "uint16"}
    )
    if not types:
        return []
    listed = ", ".join(f"{n} x {name}" for name, n in types.most_common())
    return [
        Finding(
            check_id="F08",
            severity="info",
            value=sum(types.values()),
            threshold=0,
            message=f"labels are stored wider than needed: {listed}",
            fix="nothing; uint8 would be smaller and cannot hold a fraction",
        )
    ]


def check_orientations(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """G08 over the dataset: files come in several orientations. Voxline turns all to RAS."""
    found = Counter(c.image.source_orientation for c in dataset.manifest.cases if c.image)
    if len(found) < 2:
        return []
    listed = ", ".join(f"{name} ({n})" for name, n in found.most_common())
    return [
        Finding(
            check_id="G08",
            severity="info",
            value=len(found),
            threshold=1,
            message=f"images are stored in {len(found)} orientations: {listed}",
            fix="nothing; Voxline turns every case to RAS and predictions back",
        )
    ]


def check_mixed_coding(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """E02 over the dataset: some masks say 1 and others 255 for what must be one class."""
    rows = [row for row in dataset.rows if row.n_voxels]
    neutral = {0, *dataset.manifest.task.ignore_values}
    values = {value for row in rows for value in row.label_values if value not in neutral}
    pictures = values & _PICTURE_VALUES
    is_binary = all(len(set(row.label_values) - neutral) <= 1 for row in rows)
    if not (is_binary and pictures and len(values) == len(pictures) + 1 and 1 in values):
        return []
    listed = ", ".join(
        f"{value} in {sum(value in row.label_values for row in rows)} cases"
        for value in sorted(values)
    )
    joined = ", ".join(str(value) for value in sorted(values))
    return [
        Finding(
            check_id="E02",
            severity="error",
            value=joined,
            threshold="1",
            message=f"masks of one value each are coded differently: {listed}; "
            "they would become different classes",
            fix=f"declare them as one class: task.classes: {{name: [{joined}]}}",
        )
    ]


def check_absent_classes(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """E05 over the dataset: a class that is nowhere, or missing so often that it was not drawn.

    Cases that are declared as not annotated for a class do not count for it.
    """
    labelled = [row for row in dataset.rows if row.n_voxels]
    findings = []
    absent: dict[str, tuple[int, int]] = {}
    for position, name in enumerate(dataset.manifest.task.class_names):
        rows = [row for row in labelled if name not in row.unannotated]
        n_present = sum(row.n_class_voxels[position] > 0 for row in rows)
        n_absent = sum(
            row.n_class_voxels[position] == 0 and sum(row.n_class_voxels) > 0 for row in rows
        )
        if labelled and not n_present:
            findings.append(_nowhere(name, len(labelled)))
        elif rows and n_absent > config.max_absent_fraction * len(rows):
            absent[name] = (n_absent, len(rows))
    if len(absent) > _MAX_SINGLE_ABSENT:
        return [*findings, _many_absent(absent, len(labelled), config)]
    return findings + [_often_absent(name, *counts, config) for name, counts in absent.items()]


def _nowhere(name: str, n_cases: int) -> Finding:
    return Finding(
        check_id="E05",
        severity="error",
        class_name=name,
        value=0,
        threshold=1,
        message=f"class '{name}' is declared but in none of the {n_cases} labels",
        fix="correct its value in task.classes, or take the class out; a network cannot learn it",
    )


def _often_absent(name: str, n_absent: int, n_cases: int, config: AuditConfig) -> Finding:
    return Finding(
        check_id="E05",
        severity="warning",
        class_name=name,
        value=n_absent / n_cases,
        threshold=config.max_absent_fraction,
        message=f"class '{name}' is missing in {n_absent} of {n_cases} labelled cases",
        fix="find out whether it is absent or was not drawn; if not drawn, declare it "
        f"(task.unannotated.absent: [{name}]), else every such case teaches that it is background",
    )


def _many_absent(absent: dict[str, tuple[int, int]], n_cases: int, config: AuditConfig) -> Finding:
    order = sorted(absent, key=lambda name: -absent[name][0])
    return Finding(
        check_id="E05",
        severity="warning",
        value=len(absent),
        threshold=config.max_absent_fraction,
        message=f"{len(absent)} classes are missing in more than "
        f"{100 * config.max_absent_fraction:.3g} % of the {n_cases} labelled cases: "
        + _names((f"{name} ({absent[name][0]})" for name in order), _MAX_NAMED_CLASSES),
        fix="find out whether they are absent or were not drawn; if not drawn, declare them "
        "(task.unannotated.absent), else every such case teaches that they are background",
        evidence={"classes": ", ".join(order)},
    )


def check_many_empty(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """E08 over the dataset: more empty labels than can be meant."""
    rows = [row for row in dataset.rows if row.n_voxels]
    task = dataset.manifest.task
    background = {*task.background_values, *task.ignore_values}
    n_empty = sum(set(row.label_values) <= background for row in rows)
    if config.allow_empty or n_empty <= config.max_empty_fraction * len(rows):
        return []
    return [
        Finding(
            check_id="E08",
            severity="error",
            value=n_empty / len(rows),
            threshold=config.max_empty_fraction,
            message=f"{n_empty} of {len(rows)} labels are empty",
            fix="check the label values; if these cases are healthy, set audit.allow_empty: true",
        )
    ]


def check_value_gaps(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """E06: class values with gaps. Voxline maps them; nnU-Net would refuse the dataset."""
    values = sorted(v for c in dataset.manifest.task.classes for v in c.source_values)
    if values == list(range(1, len(values) + 1)):
        return []
    return [
        Finding(
            check_id="E06",
            severity="info",
            value=", ".join(str(v) for v in values[:20]),
            message="class values in the files are not 1, 2, 3, ...",
            fix="nothing; Voxline maps them, predictions carry the same values as the files",
        )
    ]


def check_duplicates(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D01: one image under two ids; an error if one copy would validate the other."""
    folds_of = {i: n for n, fold in enumerate(dataset.splits.folds) for i in fold.validation}
    by_content: dict[str, list[CaseRecord]] = defaultdict(list)
    for record in dataset.manifest.cases:
        if record.image is not None:
            by_content[record.image.content_hash].append(record)
    findings = []
    for records in by_content.values():
        if len(records) < 2:
            continue
        ids = [record.case_id for record in records]
        labels = {record.label.content_hash for record in records if record.label is not None}
        folds = {folds_of[i] for i in ids if i in folds_of}
        is_leak = len(folds) > 1
        message = f"{_names(ids)} hold the same image, voxel for voxel"
        message += ", but different labels" if len(labels) > 1 else ""
        message += "; one copy would be trained on while another validates" if is_leak else ""
        findings.append(
            Finding(
                check_id="D01",
                severity="error" if is_leak else "warning",
                case_id=ids[0],
                value=len(ids),
                threshold=1,
                message=message,
                fix="leave out all but one, or give them one group in audit.groups",
                evidence={"same_as": ", ".join(ids[1:])},
            )
        )
    return findings


def check_repeated_labels(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D02: one label under different images, so at least one image has a wrong label."""
    is_filled = {row.case_id for row in dataset.rows if sum(row.n_class_voxels) > 0}
    by_content: dict[str, list[CaseRecord]] = defaultdict(list)
    for record in dataset.manifest.cases:
        if record.image is not None and record.label is not None and record.case_id in is_filled:
            by_content[record.label.content_hash].append(record)
    findings = []
    for records in by_content.values():
        images = {r.image.content_hash for r in records if r.image is not None}
        if len(images) < 2:
            continue
        ids = [record.case_id for record in records]
        findings.append(
            Finding(
                check_id="D02",
                severity="error",
                case_id=ids[0],
                value=len(ids),
                threshold=1,
                message=f"{_names(ids)} have the same label under different images",
                fix="find out whose label it is; the others need their own",
                evidence={"same_as": ", ".join(ids[1:])},
            )
        )
    return findings


def check_usable(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D05: too few usable cases to hold any out."""
    usable = [row.case_id for row in dataset.rows if row.fingerprint]
    if len(usable) >= 2:
        return []
    return [
        Finding(
            check_id="D05",
            severity="error",
            value=len(usable),
            threshold=2,
            message=f"{len(usable)} of {len(dataset.manifest.cases)} cases can be used; "
            "training and validation need one each",
            fix="add labelled cases or repair those listed here",
        )
    ]


def check_fold_classes(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D05: a class that is missing, or hardly there, in training or validation of a fold."""
    folds = dataset.splits.folds
    if not folds:
        return []
    minimum = config.cohort.min_positive_cases
    usable = {case_id for fold in folds for case_id in fold.validation}
    is_small = max(len(fold.validation) for fold in folds) < 2 * minimum
    findings = [_small_folds(dataset, minimum)] if is_small else []
    lone = []
    for position, name in enumerate(dataset.manifest.task.class_names):
        positive = {
            row.case_id
            for row in dataset.rows
            if row.case_id in usable and row.n_class_voxels[position] > 0
        }
        trained = [len(positive & set(fold.train)) for fold in folds]
        validated = [len(positive & set(fold.validation)) for fold in folds]
        if not any(validated):
            continue  # nowhere in the usable cases: E05 says so
        if sum(validated) == 1:
            lone.append((name, trained))
        elif min(trained) == 0:
            patients = {dataset.splits.groups.get(i, f"case {i}") for i in positive}
            findings.append(_untrained(name, trained, sum(validated), len(patients)))
        elif not is_small and min(validated) < minimum:
            findings.append(_unmeasured(name, validated, minimum))
    return findings + _only_once(lone)


def _small_folds(dataset: DatasetView, minimum: int) -> Finding:
    """The whole dataset is small: no fault of a class."""
    smallest = min(len(fold.validation) for fold in dataset.splits.folds)
    return Finding(
        check_id="D05",
        severity="info",
        value=smallest,
        threshold=2 * minimum,
        message=f"a fold validates on as few as {smallest} case{'s' if smallest != 1 else ''}; "
        "the score of one fold has no meaningful confidence interval",
        fix="judge a model over all folds together, or on a test set of its own",
    )


def _untrained(name: str, trained: Sequence[int], n_positive: int, n_patients: int) -> Finding:
    """An error if other folds would do better, a warning if only more cases would."""
    folds = ", ".join(str(n) for n, count in enumerate(trained) if count == 0)
    return Finding(
        check_id="D05",
        severity="error" if n_patients > 1 else "warning",
        class_name=name,
        value=0,
        threshold=1,
        message=f"class '{name}' is in {n_positive} usable case{'s' if n_positive > 1 else ''}, "
        f"none of them in training of fold {folds}; a network trained there cannot know it",
        fix="set audit.split: stratified, which spreads them"
        if n_patients > 1
        else "add cases that show it, take the class out, or train on all cases with --fold all",
    )


def _only_once(lone: Sequence[tuple[str, Sequence[int]]]) -> list[Finding]:
    """Classes of a single case; the fold that validates on it cannot train them."""
    if len(lone) <= _MAX_SINGLE_LONE:
        return [_untrained(name, trained, 1, 1) for name, trained in lone if min(trained) == 0]
    names = [name for name, _ in lone]
    return [
        Finding(
            check_id="D05",
            severity="warning",
            value=len(names),
            threshold=_MAX_SINGLE_LONE,
            message=f"{len(names)} classes are in a single usable case each, so a network is "
            f"either trained on them or validated: {_names(names, _MAX_NAMED_CLASSES)}",
            fix="add cases that show them, take the classes out, or train on all cases with "
            "--fold all",
            evidence={"classes": ", ".join(names)},
        )
    ]


def _unmeasured(name: str, validated: Sequence[int], minimum: int) -> Finding:
    listed = ", ".join(str(n) for n in validated)
    return Finding(
        check_id="D05",
        severity="warning",
        class_name=name,
        value=min(validated),
        threshold=minimum,
        message=f"class '{name}' is in {listed} validation cases of the folds; a score over fewer "
        f"than {minimum} cases has no meaningful confidence interval",
        fix="judge it over all folds together, or add cases that show it",
    )


def _names(names: Iterable[str], n_shown: int = _MAX_NAMED_CASES) -> str:
    return some_of(list(names), n_shown)
