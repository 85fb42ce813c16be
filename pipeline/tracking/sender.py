"""Telling MLflow what is in a spool: in order, in batches, and any number of times."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from PIL import Image

from pipeline.tracking.names import COLOR_TAG, KEY_TAG, PARENT_TAG
from pipeline.tracking.spool import (
    AnyRecord,
    DatasetRecord,
    EndRecord,
    FileRecord,
    MetricRecord,
    NestRecord,
    ParamRecord,
    PictureRecord,
    Spool,
    StartRecord,
    TagRecord,
)
from pipeline.tracking.store import CLIENT_ERRORS, Store, is_refusal
from pipeline.tracking.view import free_color

_MAX_METRICS = 800  # MLflow takes 1000 things, of them 100 parameters and 100 tags, in one call
_MAX_LABELS = 90
_MAX_UPLOAD_ATTEMPTS = 3

_log = logging.getLogger(__name__)


@dataclass
class Batch:
    """Numbers, knobs and labels that go to the runs in one call each."""

    metrics: list[MetricRecord] = field(default_factory=list)
    params: list[ParamRecord] = field(default_factory=list)
    tags: list[TagRecord] = field(default_factory=list)

    def add(self, record: MetricRecord | ParamRecord | TagRecord) -> None:
        """Take one more."""
        match record:
            case MetricRecord():
                self.metrics.append(record)
            case ParamRecord():
                self.params.append(record)
            case TagRecord():
                self.tags.append(record)

    @property
    def is_full(self) -> bool:
        """Whether MLflow would refuse more in one call."""
        too_many_labels = max(len(self.params), len(self.tags)) >= _MAX_LABELS
        return len(self.metrics) >= _MAX_METRICS or too_many_labels

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.metrics or self.params or self.tags)


class Sender:
    """Sends spools to one store.

    Args:
        store: The opened store.
        run_ids: Ids that are already known, by our key.
        remember: Called with every key and id found or created.
    """

    def __init__(
        self, store: Store, run_ids: dict[str, str], remember: Callable[[str, str], None]
    ) -> None:
        self._store = store
        self._run_ids = dict(run_ids)
        self._remember = remember
        self._checked: set[str] = set()
        self._upload_attempts: dict[Path, int] = {}

    def send(self, spool: Spool) -> int:
        """Send what a spool holds; what was sent is acknowledged, also when the rest fails.

        Args:
            spool: The spool.

        Returns:
            How many records were sent.

        Raises:
            Exception: One of CLIENT_ERRORS, if the store fails in the middle.
        """
        n_sent, sent_until = 0, spool.n_sent_bytes
        try:
            for n_records, end, send in self._operations(spool):
                send()
                n_sent, sent_until = n_sent + n_records, end
        finally:
            if n_sent:
                spool.acknowledge(sent_until)
        return n_sent

    def _operations(self, spool: Spool) -> Iterator[tuple[int, int, Callable[[], None]]]:
        # Yields how many records an operation covers, where in the file they end, and the act.
        batches: dict[str, Batch] = {}
        n_waiting, end = 0, 0
        for item in spool.pending():
            record = item.record
            if isinstance(record, MetricRecord | ParamRecord | TagRecord):
                batch = batches.setdefault(record.run, Batch())
                batch.add(record)
                n_waiting, end = n_waiting + 1, item.end
                if batch.is_full:
                    yield n_waiting, end, partial(self._send_batches, batches)
                    batches, n_waiting = {}, 0
                continue
            if batches:
                yield n_waiting, end, partial(self._send_batches, batches)
                batches, n_waiting = {}, 0
            yield 1, item.end, partial(self._send_one, record)
        if batches:
            yield n_waiting, end, partial(self._send_batches, batches)

    def _send_batches(self, batches: dict[str, Batch]) -> None:
        for key, batch in batches.items():
            run_id = self._find(key)
            if run_id is None:
                _log.warning("tracking: a run is no longer there; its numbers are dropped")
                continue
            self._send_batch(run_id, batch)

    def _send_batch(self, run_id: str, batch: Batch) -> None:
        try:
            self._store.client.log_batch(
                run_id,
                metrics=[Metric(m.key, m.value, m.time_ms, m.step) for m in batch.metrics],
                params=[Param(p.key, p.value) for p in batch.params],
                tags=[RunTag(t.key, t.value) for t in batch.tags],
            )
        except MlflowException as error:
            if not is_refusal(error):
                raise
            self._send_singly(run_id, batch, error)

    def _send_singly(self, run_id: str, batch: Batch, error: MlflowException) -> None:
        # One thing that MLflow refuses, such as a changed parameter, must not take the rest along.
        singles = _singles(batch)
        if len(singles) == 1 or not self._exists(run_id):
            _log.warning("tracking: MLflow does not take %d values: %s", len(singles), error)
            return
        for single in singles:
            self._send_batch(run_id, single)

    def _send_one(self, record: AnyRecord) -> None:
        if isinstance(record, StartRecord):
            self._start(record)
            return
        run_id = self._find(record.run)
        if run_id is None:
            return
        match record:
            case EndRecord():
                self._store.client.set_terminated(run_id, record.status, record.time_ms)
            case FileRecord():
                self._upload(record.file, lambda: self._send_file(run_id, record))
            case PictureRecord():
                self._upload(record.file, lambda: self._send_picture(run_id, record))
                record.file.unlink(missing_ok=True)
            case DatasetRecord():
                self._send_dataset(run_id, record)
            case NestRecord():
                self._nest(run_id, record)

    def _start(self, record: StartRecord) -> None:
        client = self._store.client
        run_id = self._find(record.run)
        if run_id is None:
            tags = {**record.tags, KEY_TAG: record.run}
            if record.parent is None:
                tags[COLOR_TAG] = free_color(self._store)
            else:
                tags[PARENT_TAG] = self._find(record.parent) or ""
            run = client.create_run(
                self._store.experiment_id,
                start_time=record.time_ms,
                tags={k: v for k, v in tags.items() if v},
                run_name=record.name or record.first_name,
            )
            self._know(record.run, run.info.run_id)
            return
        client.update_run(run_id, status="RUNNING", name=record.name)
        for key, value in record.tags.items():
            client.set_tag(run_id, key, value)

    def _find(self, key: str) -> str | None:
        run_id = self._run_ids.get(key)
        if key in self._checked:
            return run_id
        if run_id is None or not self._exists(run_id):
            run_id = self._search(key)
        if run_id is not None:
            self._know(key, run_id)
        return run_id

    def _exists(self, run_id: str) -> bool:
        try:
            run: Run = self._store.client.get_run(run_id)
        except MlflowException as error:
            if not is_refusal(error):
                raise
            return False
        return run.info.lifecycle_stage == "active"

    def _search(self, key: str) -> str | None:
        found = self._store.client.search_runs(
            [self._store.experiment_id],
            filter_string=f"tags.`{KEY_TAG}` = '{key}'",
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=1,
        )
        return found[0].info.run_id if found else None

    def _know(self, key: str, run_id: str) -> None:
        self._checked.add(key)
        if self._run_ids.get(key) != run_id:
            self._run_ids[key] = run_id
            self._remember(key, run_id)

    def _nest(self, run_id: str, record: NestRecord) -> None:
        above = self._find(record.parent)
        if above is not None:
            self._store.client.set_tag(run_id, PARENT_TAG, above)

    def _upload(self, file: Path, act: Callable[[], None]) -> None:
        # A file that cannot be uploaded is given up after some attempts; it still lies on disk.
        if not (file.is_file() and os.access(file, os.R_OK)):
            _log.warning("tracking: %s is no longer there and is not recorded", file)
            return
        try:
            act()
        except CLIENT_ERRORS as error:
            n_attempts = self._upload_attempts.get(file, 0) + 1
            self._upload_attempts[file] = n_attempts
            if n_attempts < _MAX_UPLOAD_ATTEMPTS and not is_refusal(error):
                raise
            _log.warning("tracking: %s cannot be uploaded: %s", file, error)

    def _send_file(self, run_id: str, record: FileRecord) -> None:
        self._store.client.log_artifact(run_id, str(record.file), record.folder or None)

    def _send_picture(self, run_id: str, record: PictureRecord) -> None:
        with Image.open(record.file) as picture:
            self._store.client.log_image(
                run_id, picture, key=record.key, step=record.step, timestamp=record.time_ms
            )

    def _send_dataset(self, run_id: str, record: DatasetRecord) -> None:
        # The source stays empty: paths name patients and places.
        dataset = Dataset(
            name=record.name, digest=record.digest, source_type="local", source='{"uri": ""}'
        )
        tag = InputTag(key="mlflow.data.context", value=record.context)
        self._store.client.log_inputs(run_id, [DatasetInput(dataset, [tag])])


def _singles(batch: Batch) -> list[Batch]:
    return [
        *(Batch(metrics=[m]) for m in batch.metrics),
        *(Batch(params=[p]) for p in batch.params),
        *(Batch(tags=[t]) for t in batch.tags),
    ]
