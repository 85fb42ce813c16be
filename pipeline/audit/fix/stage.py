"""A corrected copy of a dataset folder, with a manifest of every change."""

import hashlib
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import CaseRecord, DatasetManifest, FileFacts, Finding, Findings, Task
from pipeline.audit.fix.manifest import FixedFile, FixManifest, LeftFinding
from pipeline.audit.fix.repairs import ASSUMPTIONS, ORDER, UNSAFE, LabelFile, find_repair
from pipeline.core.errors import UsageError, VoxlineError, did_you_mean
from pipeline.core.log import progress_bar
from pipeline.core.parallel import map_cases
from pipeline.core.volume import Volume
from pipeline.core.workspace import write_json, write_text
from pipeline.io.load import NIFTI_SUFFIXES, load_volume
from pipeline.io.nifti import write_nifti

MANIFEST = "fixes.json"

_GZIP_MAGIC = b"\x1f\x8b"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _CaseResult:
    """What became of one case."""

    fixed: FixedFile | None
    left: tuple[LeftFinding, ...]


def fix_dataset(
    manifest: DatasetManifest, findings: Findings, out_dir: Path, unsafe: Sequence[str]
) -> FixManifest:
    """Write a copy of the dataset in which what can be mended is mended.

    The source is only read. Files without a repair are copied byte for byte; `dataset.json` is
    carried over, with new names where files had a wrong suffix.

    Args:
        manifest: The dataset as ingested.
        findings: What the audit found in it.
        out_dir: New folder for the copy; must be empty or absent and outside the source.
        unsafe: Checks whose unsafe repair may run.

    Returns:
        The manifest, also written to `out_dir/fixes.json`.

    Raises:
        UsageError: If the folder cannot be used, files lie outside the dataset folder, or a check
            has no repair.
    """
    chosen = _checked(unsafe)
    _check_source(manifest)
    _check_folder(manifest.root, out_dir)
    by_case: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings.findings:
        if finding.case_id is not None and finding.waived is None and finding.severity != "info":
            by_case[finding.case_id].append(finding)
    renamed = _renamed(manifest, findings)
    n_copied = _copy_all(manifest.root, out_dir, renamed)
    work = _FixWork(manifest.root, out_dir, manifest.task, chosen)
    jobs = [
        (case, tuple(by_case[case.case_id])) for case in manifest.cases if case.case_id in by_case
    ]
    outcomes = map_cases(work, jobs, description="mending")
    results = [o.result or _failed(o.item, o.error) for o in outcomes]
    fixed = [r.fixed for r in results if r.fixed is not None]
    done = FixManifest(
        source=manifest.name,
        unsafe=tuple(sorted(chosen)),
        assumptions=tuple(f"{i}: {ASSUMPTIONS[i]}" for i in sorted(chosen)),
        n_files_copied=n_copied - len(fixed),
        fixed=(*fixed, *_renamed_files(manifest, renamed, out_dir)),
        left=(
            *(left for r in results for left in r.left if not _is_renamed(left, manifest, renamed)),
            *(
                LeftFinding(check_id=f.check_id, case_id=None, reason="concerns the whole dataset")
                for f in findings.findings
                if f.case_id is None and f.severity != "info" and f.waived is None
            ),
        ),
    )
    write_json(out_dir / MANIFEST, done)
    return done


@dataclass(frozen=True)
class _FixWork:
    """Mends the label of one case; picklable."""

    root: Path
    out_dir: Path
    task: Task
    unsafe: frozenset[str]

    def __call__(self, job: tuple[CaseRecord, tuple[Finding, ...]]) -> _CaseResult:
        case, findings = job
        left = [_left(f, self.unsafe) for f in findings if find_repair(f, self.unsafe) is None]
        todo = [f for f in findings if find_repair(f, self.unsafe) is not None]
        if case.label_file is None or not todo:
            return _CaseResult(None, tuple(left + [_unreadable(f) for f in todo]))
        if not _is_plain(case.label_file):
            return _CaseResult(None, tuple(left + [_not_rewritten(f) for f in todo]))
        source = self.root / case.label_file.file
        facts, volume = load_volume(source, root=self.root, role="label")
        label = LabelFile(
            volume.array,
            volume.affine,
            facts,
            case.image_files[0] if case.image_files else None,
            self.task,
        )
        done: list[str] = []
        for finding in sorted(todo, key=lambda f: ORDER.index(f.check_id)):
            mend = find_repair(finding, self.unsafe)
            repair = mend(label, finding) if mend is not None else None
            if repair is None or repair.label is None:
                reason = repair.text if repair is not None else ""
                left.append(
                    LeftFinding(check_id=finding.check_id, case_id=case.case_id, reason=reason)
                )
                continue
            label = repair.label
            done.append(f"{finding.check_id}: {repair.text}")
        if not done:
            return _CaseResult(None, tuple(left))
        target = self.out_dir / case.label_file.file
        like = label.like.model_copy(update={"shape": label.array.shape})
        write_nifti(target, Volume(label.array, label.affine), like=like)
        return _CaseResult(_entry(case, source, target, done, self.out_dir, self.root), tuple(left))


def _entry(
    case: CaseRecord, source: Path, target: Path, done: list[str], out_dir: Path, root: Path
) -> FixedFile:
    return FixedFile(
        file=target.relative_to(out_dir).as_posix(),
        source=source.relative_to(root).as_posix(),
        case_id=case.case_id,
        done=tuple(done),
        sha256_before=_sha256(source),
        sha256_after=_sha256(target),
    )


def _checked(unsafe: Sequence[str]) -> frozenset[str]:
    for check_id in unsafe:
        if check_id not in UNSAFE:
            raise UsageError(
                f"there is no unsafe repair for '{check_id}'",
                where="--fix-unsafe",
                fix=f"{did_you_mean(check_id, tuple(UNSAFE))}; there are "
                + ", ".join(f"{i} ({ASSUMPTIONS[i]})" for i in UNSAFE),
            )
    return frozenset(unsafe)


def _check_source(manifest: DatasetManifest) -> None:
    """A copy keeps the places of files: those outside the folder have none in it."""
    is_list = manifest.source is not None and not manifest.source.is_dir()
    names = [stamp.file for case in manifest.cases for stamp in case.sources]
    outside = [name for name in names if Path(name).is_absolute()]
    if is_list or outside:
        raise UsageError(
            "the dataset was given as a list of files"
            if is_list
            else f"{outside[0]} lies outside the dataset folder",
            where=str(manifest.source or manifest.root),
            fix="a corrected copy is made of a dataset folder that holds all of its files: put the "
            "list into that folder, and name the folder as --data",
        )


def _is_plain(label: FileFacts) -> bool:
    return label.file.lower().endswith(NIFTI_SUFFIXES) and not label.segments


def _check_folder(root: Path, out_dir: Path) -> None:
    if out_dir.resolve().is_relative_to(root.resolve()) or root.resolve().is_relative_to(
        out_dir.resolve()
    ):
        raise UsageError(
            "the corrected copy must lie outside its source",
            where=str(out_dir),
            fix="name another folder",
        )
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise UsageError(
            "the folder for the corrected copy is not empty",
            where=str(out_dir),
            fix="name a new folder; nothing is ever overwritten",
        )
    n_bytes = sum(file.stat().st_size for file in _files(root))
    place = next(p for p in (out_dir, *out_dir.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if n_bytes > free:
        raise UsageError(
            f"the copy needs {n_bytes / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB left",
            where=str(out_dir),
            fix="name a folder on another disk",
        )


def _files(root: Path) -> list[Path]:
    """Every file of the dataset folder, without hidden ones."""
    found = []
    # Linked folders belong to the dataset; `rglob` would leave them out.
    for name, folders, files in os.walk(root, followlinks=True):
        folder = Path(name)
        above = folder.parents[: len(folder.relative_to(root).parts)]
        is_loop = any(folder.samefile(parent) for parent in above)
        folders[:] = [] if is_loop else [f for f in folders if not f.startswith(".")]
        found += [] if is_loop else [folder / f for f in files if not f.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _copy_all(root: Path, out_dir: Path, renamed: dict[str, str]) -> int:
    files = _files(root)
    with progress_bar("copying", len(files)) as bar:
        for file in files:
            name = file.relative_to(root).as_posix()
            target = out_dir / renamed.get(name, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            bar.advance()
    description = out_dir / "dataset.json"
    if renamed and description.is_file():
        text = description.read_text(encoding="utf-8")
        for old, new in renamed.items():
            # With the closing quote: "a.nii" must not match inside "a.nii.gz".
            text = text.replace(f'{old}"', f'{new}"')
        write_text(description, text)
    return len(files)


def _renamed(manifest: DatasetManifest, findings: Findings) -> dict[str, str]:
    """Files whose suffix lies about gzip (F02), with the name that says the truth."""
    names: dict[str, str] = {}
    for finding in findings.findings:
        name = finding.evidence.get("file")
        if finding.check_id != "F02" or not isinstance(name, str):
            continue
        file = manifest.root / name
        if not file.is_file():
            continue
        with file.open("rb") as stream:
            head = stream.read(352)
        if head[:2] == _GZIP_MAGIC and name.lower().endswith(".nii"):
            names[name] = f"{name}.gz"
        elif _is_plain_nifti(head) and name.lower().endswith(".nii.gz"):
            names[name] = name[: -len(".gz")]
    return names


def _is_plain_nifti(head: bytes) -> bool:
    return len(head) >= 352 and (head[344:347] == b"n+1" or head[4:7] == b"n+2")


def _renamed_files(
    manifest: DatasetManifest, renamed: dict[str, str], out_dir: Path
) -> list[FixedFile]:
    entries = []
    for old, new in renamed.items():
        digest = _sha256(out_dir / new)
        case = next((c for c in manifest.cases if any(p.file == old for p in c.problems)), None)
        entries.append(
            FixedFile(
                file=new,
                source=old,
                case_id=case.case_id if case else "",
                done=(f"F02: named {Path(new).name}",),
                sha256_before=digest,
                sha256_after=digest,
            )
        )
    return entries


def _is_renamed(left: LeftFinding, manifest: DatasetManifest, renamed: dict[str, str]) -> bool:
    if left.check_id != "F02":
        return False
    case = next((c for c in manifest.cases if c.case_id == left.case_id), None)
    return case is not None and any(p.file in renamed for p in case.problems)


def _left(finding: Finding, unsafe: frozenset[str]) -> LeftFinding:
    reason = "no repair is known"
    if finding.check_id in UNSAFE and finding.check_id not in unsafe:
        reason = (
            f"would need --fix-unsafe {finding.check_id}, which takes for granted: "
            f"{ASSUMPTIONS[finding.check_id]}"
        )
    return LeftFinding(check_id=finding.check_id, case_id=finding.case_id, reason=reason)


def _unreadable(finding: Finding) -> LeftFinding:
    return LeftFinding(
        check_id=finding.check_id, case_id=finding.case_id, reason="the label cannot be read"
    )


def _not_rewritten(finding: Finding) -> LeftFinding:
    return LeftFinding(
        check_id=finding.check_id,
        case_id=finding.case_id,
        reason="only labels that are one NIfTI file are rewritten: mend it in the tool it is from",
    )


def _failed(job: tuple[CaseRecord, tuple[Finding, ...]], error: VoxlineError | None) -> _CaseResult:
    case, findings = job
    reason = error.what if error is not None else "unknown"
    return _CaseResult(
        None,
        tuple(
            LeftFinding(check_id=f.check_id, case_id=case.case_id, reason=reason) for f in findings
        ),
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
