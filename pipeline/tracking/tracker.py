"""The tracker that stages see: everything goes to a spool, and from there to MLflow when it can.

No call raises into a stage and none waits long. The parent run of a work folder is what people
compare; each stage has a child run with its cost and details.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from PIL import Image

from pipeline.core.tracker import Number
from pipeline.core.workspace import write_text
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.link import Link, Target
from pipeline.tracking.names import (
    DESCRIPTION_TAG,
    HEADLINE_TAG,
    HEARTBEAT_TAG,
    MAX_DATASET_NAME_LENGTH,
    MAX_DIGEST_LENGTH,
    MAX_PARAM_LENGTH,
    MAX_TAG_LENGTH,
    PIPELINE,
    PROCESS_TAG,
    STAGE_TAG,
    TABLES_TAG,
    clean_name,
    clean_picture_key,
)
from pipeline.tracking.processes import cost_so_far, this_process
from pipeline.tracking.spool import (
    AnyRecord,
    DatasetRecord,
    EndRecord,
    FileRecord,
    MetricRecord,
    NestRecord,
    ParamRecord,
    PictureRecord,
    RunStatus,
    Spool,
    StartRecord,
    TagRecord,
    new_spool,
)
from pipeline.tracking.state import TrackingState, new_key, read_state, update

_HEARTBEAT_S = 60.0

_log = logging.getLogger(__name__)


class MlflowTracker:
    """Records one stage of a work folder: on the parent run and on a child run of its own.

    Args:
        target: Where the runs go.
        config: When to send.
        state: What the parent run already knows.
        stage: Name of the stage.
        run_name: Name for the parent run; None keeps the one it has, at first the work folder's.
        members: Keys of parent runs of other trainings, which are put below this one.
    """

    def __init__(
        self,
        target: Target,
        config: TrackingConfig,
        state: TrackingState,
        *,
        stage: str,
        run_name: str | None,
        members: Sequence[str] = (),
    ) -> None:
        self._target = target
        self._flush_s = config.flush_s
        self._link = Link(target, config)
        self._parent = state.parent
        self._child = new_key()
        self._last_steps = dict(state.last_steps)
        self._headlines = dict(state.headlines)
        self._params = dict(state.params)
        self._tables = dict(state.tables)
        self._is_state_saved = True
        self._has_warned_of_disk = False
        self._cost_at_start = cost_so_far()
        self._started_at_s = self._sent_at_s = self._heartbeat_at_s = time.monotonic()
        self._spool: Spool = new_spool(target.spools, _now_ms(), self._child)
        self._lock = self._spool.lock()
        target.spools.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        self._recall_unsent()
        self._append(self._start_records(stage, run_name))
        self._append([NestRecord(run=m, time_ms=_now_ms(), parent=self._parent) for m in members])

    def log_params(self, params: Mapping[str, str | Number | bool]) -> None:
        """Record knobs on the parent run; a knob never changes, a longer text becomes a file."""
        records: list[AnyRecord] = []
        for name, value in params.items():
            key, text = clean_name(name), str(value)
            if len(text) > MAX_PARAM_LENGTH:
                text = self._param_as_file(key, text)
            known = self._params.setdefault(key, text)
            if known != text:
                _log.warning("tracking: parameter %s stays '%.60s', not '%.60s'", key, known, text)
                continue
            # Sent again by every stage that says so; MLflow takes equal values.
            records.append(ParamRecord(run=self._parent, time_ms=_now_ms(), key=key, value=text))
        self._is_state_saved = False
        self._put(records)

    def log_metrics(
        self,
        metrics: Mapping[str, Number | None],
        *,
        step: int | None = None,
        headline: bool = True,
    ) -> None:
        """Record numbers; what is not finite is left out, and what a resumed stage repeats.

        Args:
            metrics: Name to value; "/" groups names into sections of the UI.
            step: Position on the x axis of a curve; None for a result.
            headline: On the parent run; otherwise on the run of this stage.
        """
        now_ms, records = _now_ms(), list[AnyRecord]()
        n_headlines = len(self._headlines)
        for name, value in metrics.items():
            if value is None or not math.isfinite(value):
                continue
            key, number = clean_name(name), float(value)
            if headline and not self._is_news(key, number, step):
                continue
            run = self._parent if headline else self._child
            records.append(
                MetricRecord(run=run, time_ms=now_ms, key=key, value=number, step=step or 0)
            )
        if len(self._headlines) > n_headlines:
            records.append(self._tag(HEADLINE_TAG, json.dumps(list(self._headlines))))
        self._put(records)

    def log_file(self, file: Path, *, folder: str = "", headline: bool = False) -> None:
        """Record a file, which must stay where it is until the stage ends.

        Args:
            file: Any file.
            folder: Where it goes among the artifacts; "" is their root.
            headline: On the parent run, where only files at the root can be compared.
        """
        run = self._parent if headline else self._child
        self._put([FileRecord(run=run, time_ms=_now_ms(), file=file.absolute(), folder=folder)])

    def log_table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | Number | None]]
    ) -> None:
        """Record a table on the parent run, which the UI shows and puts beside that of others."""
        # By run: what waits to be sent must not become the table of the next training.
        folder = self._target.folder / "tables" / self._parent
        file = folder / f"{clean_picture_key(name).rpartition('/')[2]}.json"
        try:
            write_text(
                file, json.dumps({"columns": list(columns), "data": [list(r) for r in rows]})
            )
        except OSError as error:
            _log.warning("tracking: table %s is not recorded: %s", name, error)
            return
        self.log_file(file, headline=True)
        self._tables[file.name] = 1
        self._is_state_saved = False
        listed = [{"path": path, "type": "table"} for path in self._tables]
        self._put([self._tag(TABLES_TAG, json.dumps(listed))])

    def log_picture(self, file: Path, *, key: str, step: int) -> None:
        """Record a PNG as one step of a series; begin with step 0, on which the UI opens."""
        key = clean_picture_key(key)
        series = f"picture {key}"
        if step <= self._last_steps.get(series, -1):
            return
        copy = self._target.folder / "pictures" / f"{uuid4().hex}.png"
        try:
            with Image.open(file) as picture:
                picture.verify()
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        except (OSError, SyntaxError) as error:  # Pillow reports broken PNGs as SyntaxError
            _log.warning("tracking: picture %s is not recorded: %s", file, error)
            return
        self._last_steps[series] = step
        self._is_state_saved = False
        self._put(
            [PictureRecord(run=self._parent, time_ms=_now_ms(), file=copy, key=key, step=step)]
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Label the parent run; "description" is its text in Markdown."""
        self._put(
            [
                self._tag(DESCRIPTION_TAG if name == "description" else clean_name(name), value)
                for name, value in tags.items()
            ]
        )

    def log_dataset(self, *, name: str, digest: str, context: str) -> None:
        """Record which data the stage used, on the parent run and on its own."""
        self._put(
            [
                DatasetRecord(
                    run=run,
                    time_ms=_now_ms(),
                    name=name[:MAX_DATASET_NAME_LENGTH] or "unnamed",
                    digest=digest[:MAX_DIGEST_LENGTH],
                    context=context,
                )
                for run in (self._parent, self._child)
            ]
        )

    def flush(self) -> None:
        """Send what is waiting, unless the store failed a short while ago."""
        self._send(final=False)

    @property
    def parent_key(self) -> str | None:
        """Our own name of the parent run."""
        return self._parent

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the parent run; None as long as it could not be created."""
        state = read_state(self._target.folder)
        return state.run_ids.get(self._parent) if state else None

    def close(self, status: RunStatus) -> None:
        """End the run of the stage and the parent, and try once more to send everything.

        Args:
            status: How the stage ended.
        """
        cost = cost_so_far()
        self.log_metrics(
            {
                "cost/wall_s": time.monotonic() - self._started_at_s,
                "cost/cpu_s": cost.cpu_s - self._cost_at_start.cpu_s,
                "cost/peak_memory_mb": cost.peak_memory_mb,
            },
            headline=False,
        )
        self._append(
            [
                EndRecord(run=run, time_ms=_now_ms(), status=status)
                for run in (self._child, self._parent)
            ]
        )
        if self._send(final=True):
            self._link.refresh_view(self.run_id)
            self._spool.discard()
        self._lock.release()

    def _start_records(self, stage: str, run_name: str | None) -> list[AnyRecord]:
        now_ms, process = _now_ms(), this_process()
        alive = {PROCESS_TAG: process, HEARTBEAT_TAG: str(now_ms)}
        details = {
            STAGE_TAG: stage,
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "n_cpus": str(os.cpu_count()),
        }
        parent = StartRecord(
            run=self._parent,
            time_ms=now_ms,
            name=run_name,
            # Else MLflow makes one up: an audit on its own would be called "nosy-gull-40".
            first_name=self._target.folder.parent.name,
            parent=None,
            tags={STAGE_TAG: PIPELINE, **alive},
        )
        child = StartRecord(
            run=self._child, time_ms=now_ms, name=stage, parent=self._parent, tags=details | alive
        )
        return [parent, child]

    def _recall_unsent(self) -> None:
        # A stage that was killed may have spooled more than the state knows of.
        for file in self._target.spools.glob("spool-*.jsonl"):
            for item in Spool(file).all():
                if isinstance(item.record, MetricRecord) and item.record.run == self._parent:
                    known = self._last_steps.get(item.record.key, -1)
                    self._last_steps[item.record.key] = max(known, item.record.step)

    def _is_news(self, key: str, value: float, step: int | None) -> bool:
        if step is None:
            is_news = self._headlines.get(key) != value
            self._headlines[key] = value
        else:
            is_news = step > self._last_steps.get(key, -1)
            if is_news:
                self._last_steps[key] = step
        self._is_state_saved = self._is_state_saved and not is_news
        return is_news

    def _tag(self, key: str, value: str) -> TagRecord:
        return TagRecord(run=self._parent, time_ms=_now_ms(), key=key, value=value[:MAX_TAG_LENGTH])

    def _param_as_file(self, key: str, text: str) -> str:
        # MLflow would cut the text short without a word.
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        file = self._target.folder / "params" / f"{key.replace('/', '.')}-{digest}.txt"
        try:
            write_text(file, text)
        except OSError as error:
            _log.warning("tracking: parameter %s is not recorded: %s", key, error)
        else:
            self.log_file(file, folder="params", headline=True)
        return f"too long, see params/{file.name}"

    def _put(self, records: Sequence[AnyRecord]) -> None:
        self._append(records)
        if time.monotonic() - self._sent_at_s >= self._flush_s:
            self._send(final=False)

    def _append(self, records: Sequence[AnyRecord]) -> None:
        try:
            self._spool.append(records)
        except OSError as error:
            if not self._has_warned_of_disk:
                _log.warning("tracking: results cannot be kept: %s", error)
            self._has_warned_of_disk = True

    def _send(self, *, final: bool) -> bool:
        now_s = time.monotonic()
        if now_s - self._heartbeat_at_s >= _HEARTBEAT_S:
            self._heartbeat_at_s = now_s
            beat = TagRecord(
                run=self._child, time_ms=_now_ms(), key=HEARTBEAT_TAG, value=str(_now_ms())
            )
            self._append([beat, beat.model_copy(update={"run": self._parent})])
        self._save_state()
        is_sent = self._link.send(self._spool, final=final)
        self._sent_at_s = time.monotonic()
        return is_sent

    def _save_state(self) -> None:
        if self._is_state_saved:
            return
        known = {
            "last_steps": self._last_steps,
            "headlines": self._headlines,
            "params": self._params,
            "tables": self._tables,
        }

        def merge(state: TrackingState) -> TrackingState:
            if state.parent != self._parent:
                return state  # a newer training has begun in this work folder meanwhile
            old = state.model_dump()
            return state.model_copy(update={k: old[k] | known[k] for k in known})

        try:
            update(self._target.folder, merge)
        except OSError as error:
            _log.debug("tracking: state is not saved: %s", error)
            return
        self._is_state_saved = True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
