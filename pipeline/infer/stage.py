"""Predict every image of a folder: the table of contents of the stage."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts import PredictionRecord, Predictions
from pipeline.core.log import progress_bar
from pipeline.core.parallel_config import Part
from pipeline.core.text import some_of
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import write_json, write_text
from pipeline.infer.case import CaseWork
from pipeline.infer.cohort import run_elsewhere, run_in_turns, sigterm_as_interrupt
from pipeline.infer.config import InferConfig
from pipeline.infer.opened import OpenModel
from pipeline.infer.quality import quality_line
from pipeline.infer.records import PREDICTIONS_FILE, case_stamps, find_earlier, put_aside
from pipeline.infer.report import render_predictions
from pipeline.io.discover import CaseFiles, DatasetFolder

logger = logging.getLogger(__name__)

REPORT = "report.html"
# Rewriting thousands of records after every case would cost more than the cases.
_WRITE_EVERY_S = 5.0
_MAX_NAMES = 5


def infer(
    config: InferConfig,
    opened: OpenModel,
    folder: DatasetFolder,
    out_dir: Path,
    tracker: Tracker,
    *,
    is_elsewhere: bool = False,
) -> Predictions:
    """Predict every case; one that fails is named and does not stop the others.

    Images that were predicted before with the same model and settings are not predicted again,
    whatever their files are called.

    Args:
        config: How to predict.
        opened: From `open_model`.
        folder: Images to predict.
        out_dir: Gets predictions/<case_id>.nii.gz, predictions.json and report.html.
        tracker: Gets counts, cost and the quality of every case.
        is_elsewhere: Work in processes or on a cluster, as the section `parallel` says.

    Returns:
        One record per case.
    """
    _put_aside(out_dir, opened, None)
    cohort = _Cohort(config, opened, folder, out_dir)
    n_new = cohort.run(folder.cases, is_elsewhere=is_elsewhere)
    predictions = cohort.predictions()
    if config.report and (n_new or not (out_dir / REPORT).is_file()):
        write_text(out_dir / REPORT, render_predictions(predictions, opened.info, folder, out_dir))
        tracker.log_file(out_dir / REPORT)
    _report(predictions, n_new, opened, tracker)
    return predictions


def infer_part(
    config: InferConfig, opened: OpenModel, folder: DatasetFolder, out_dir: Path, part: Part
) -> int:
    """Predict one share of the cases; the run without a part gathers all shares.

    Args:
        config: How to predict.
        opened: From `open_model`.
        folder: All images.
        out_dir: Gets predictions and their records, but no predictions.json.
        part: Which share.

    Returns:
        Number of cases that failed.
    """
    cases = part.of(folder.cases)
    _put_aside(out_dir, opened, [case.case_id for case in cases])
    cohort = _Cohort(config, opened, folder, out_dir, is_part=True)
    n_new = cohort.run(cases)
    failed = [r for r in cohort.records.values() if r.status == "failed"]
    logger.info(
        "part %s: predicted %d cases, kept %d, failed %d; the same command without --part gathers "
        "all parts",
        part.name,
        n_new - len(failed),
        len(cases) - n_new,
        len(failed),
    )
    return len(failed)


@dataclass
class _Cohort:
    """The records of a run, as they come in."""

    config: InferConfig
    opened: OpenModel
    folder: DatasetFolder
    out_dir: Path
    is_part: bool = False
    records: dict[str, PredictionRecord] = field(default_factory=dict)

    def run(self, cases: Sequence[CaseFiles], *, is_elsewhere: bool = False) -> int:
        """Predict cases, keeping what need not be done again; returns how many were new."""
        earlier = find_earlier(self.out_dir, self.opened, self.config)
        work = CaseWork(self.opened, self.config, self.folder.root, self.out_dir, earlier)
        waiting = []
        for case in cases:
            known = earlier.unchanged(case, case_stamps(case, self.folder.root))
            if known is None:
                waiting.append(case)
            else:
                self.records[case.case_id] = known
        n_known = len(self.records)
        try:
            if is_elsewhere:
                self._take(run_elsewhere(work, waiting))
            else:
                with (
                    sigterm_as_interrupt(),
                    progress_bar("predict", len(cases), done=n_known) as bar,
                ):
                    for record in self._noted(run_in_turns(work, waiting)):
                        bar.advance(1, record.case_id)
        finally:
            # Also when it is interrupted: what is finished must be seen.
            self._write()
        return len(waiting)

    def predictions(self) -> Predictions:
        """What is known by now, in the order of the cases."""
        opened = self.opened
        cases = (self.records.get(case.case_id) for case in self.folder.cases)
        return Predictions(
            dataset_name=self.folder.name,
            model_file=str(opened.files[0]),
            model_digest=opened.digest,
            overlap=self.config.overlap,
            cases=tuple(record for record in cases if record is not None),
            model_files=tuple(str(file) for file in opened.files),
            mirror_axes=opened.predictor.mirror_axes,
            cleanup=opened.info.cleanup if self.config.cleanup == "auto" else (),
        )

    def _take(self, records: Iterator[PredictionRecord]) -> None:
        for _ in self._noted(records):
            pass

    def _noted(self, records: Iterator[PredictionRecord]) -> Iterator[PredictionRecord]:
        computed_on, written_s = "", time.monotonic()
        for record in records:
            self.records[record.case_id] = record
            if record.quality:
                logger.warning("%s: %s", record.case_id, quality_line(record.quality))
            if record.status == "done" and record.message:
                logger.warning("%s: %s", record.case_id, record.message)
            if record.computed_on not in ("", computed_on):
                computed_on = record.computed_on
                logger.info("%s: computed on %s", record.case_id, computed_on)
            if time.monotonic() - written_s > _WRITE_EVERY_S:
                self._write()
                written_s = time.monotonic()
            yield record

    def _write(self) -> None:
        if not self.is_part:
            write_json(self.out_dir / PREDICTIONS_FILE, self.predictions())


def _put_aside(out_dir: Path, opened: OpenModel, case_ids: Sequence[str] | None) -> None:
    aside = put_aside(out_dir, opened.digest, case_ids)
    if aside is not None:
        logger.info("predictions of another model are kept in %s", aside)


def _report(predictions: Predictions, n_new: int, opened: OpenModel, tracker: Tracker) -> None:
    done = [r for r in predictions.cases if r.status == "done"]
    failed = [r for r in predictions.cases if r.status == "failed"]
    seen = [r.case_id for r in done if r.seen_in_training]
    flagged = [r for r in done if r.quality]
    logger.info(
        "predicted (or found again by their content) %d cases, kept %d unchanged, failed %d",
        n_new - len(failed),
        len(predictions.cases) - n_new,
        len(failed),
    )
    for record in failed:
        logger.error("failed: %s: %s (fix: %s)", record.case_id, record.message, record.fix)
    if flagged:
        names = some_of([r.case_id for r in flagged], _MAX_NAMES)
        logger.warning("%d of %d cases need a look: %s", len(flagged), len(done), names)
    if seen:
        logger.warning(
            "%d of %d cases were trained on, their scores will flatter the model: %s",
            len(seen),
            len(done),
            some_of(seen, _MAX_NAMES),
        )
    metrics = {
        "infer/n_cases": len(done),
        "infer/n_failed": len(failed),
        "infer/n_flagged": len(flagged),
        "infer/n_seen_in_training": len(seen),
        "infer/seconds_per_case": sum(r.seconds or 0.0 for r in done) / max(1, len(done)),
    }
    tracker.log_metrics(metrics, headline=False)
    columns = ["case_id", "quality", *(f"{name}_ml" for name in opened.info.task.class_names)]
    rows: list[tuple[str | float, ...]] = [
        (r.case_id, quality_line(r.quality), *r.volumes_ml) for r in done
    ]
    tracker.log_table("predictions", columns, rows)
