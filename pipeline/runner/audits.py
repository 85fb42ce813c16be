"""Commands around the audit: a corrected copy, and the audit of label files without images."""

import logging
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.artifacts import DatasetManifest, read_artifact
from pipeline.audit.fix.manifest import FixManifest
from pipeline.core.errors import UsageError
from pipeline.core.workspace import write_json
from pipeline.runner.around import stage_run
from pipeline.runner.commands import VERDICT_STATUS, audit_dataset, run_audit, with_layout
from pipeline.runner.labels import audit_labels
from pipeline.runner.request import RUNS_DIR, Request, refuse_pseudonyms

logger = logging.getLogger(__name__)

PIPE_WIDTH = 160


def run_fix(request: Request, out_dir: Path, unsafe: list[str]) -> int:
    """Audit, write a corrected copy, and audit the copy; the status is that of the copy."""
    from pipeline.audit.fix.stage import MANIFEST, fix_dataset
    from pipeline.ingest.disguise import original_source

    findings = audit_dataset(request)
    manifest = read_artifact(request.workspace.dataset_file, DatasetManifest, made_by="ingest")
    if original_source(manifest.root) is not None:
        raise UsageError(
            "a corrected copy keeps the names of the files, this work folder knows only pseudonyms",
            where="--fix",
            fix="give another --work for it, and the dataset with --data",
        )
    out_dir = out_dir.absolute()
    done = fix_dataset(manifest, findings, out_dir, unsafe)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(_summary(done))
    logger.info("corrected copy: %s (every change is in %s)", out_dir, MANIFEST)
    logger.info("auditing the copy")
    root = request.workspace.root
    request = with_layout(request, manifest.layout_asked)
    copy = replace(request, data=out_dir, work=root.with_name(f"{root.name}-fixed"))
    return run_audit(copy)


def _summary(done: FixManifest) -> Table:
    table = Table(title=f"{len(done.fixed)} files mended, {len(done.left)} findings left")
    for name in ("Check", "Cases", "What became of it"):
        table.add_column(name, overflow="fold")
    mended = Counter(text.split(":", 1)[0] for file in done.fixed for text in file.done)
    for check_id, n in sorted(mended.items()):
        table.add_row(check_id, str(n), "mended")
    left = Counter((item.check_id, item.reason) for item in done.left)
    for (check_id, reason), n in sorted(left.items()):
        table.add_row(check_id, str(n), f"left: {reason}")
    return table


def run_label_audit(request: Request, folder: Path, ref: Path | None) -> int:
    """Audit label files without images; findings go to stdout and `audit/findings.json`."""
    from pipeline.audit.terminal import print_findings

    refuse_pseudonyms(request)
    work = request.work or (RUNS_DIR / f"labels-{folder.resolve().name}").resolve()
    request = replace(request, data=None, work=work)
    with stage_run(request, "audit", run_name=f"labels-{folder.name}") as tracker:
        findings = audit_labels(
            folder.resolve(),
            ref,
            request.experiment.audit,
            out_root=request.workspace.stage_dir("audit"),
        )
        write_json(request.workspace.findings_file, findings)
        print_findings(findings, is_training=False)
        tracker.log_file(request.workspace.findings_file, headline=True)
    return VERDICT_STATUS[findings.verdict]
