"""Records survive in order; what was sent is not read again; damage costs one record."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.spool import (
    EndRecord,
    FileRecord,
    MetricRecord,
    ParamRecord,
    Spool,
    StartRecord,
    TagRecord,
    abandoned_spools,
    new_spool,
)


def _metric(step: int) -> MetricRecord:
    return MetricRecord(run="r", time_ms=step, key="loss", value=0.5, step=step)


def _steps(items) -> list[int]:
    return [item.record.step for item in items]


_values = st.floats(allow_nan=False, allow_infinity=False)
_records = st.one_of(
    st.builds(MetricRecord, run=st.text(), time_ms=st.integers(0), key=st.text(), value=_values),
    st.builds(ParamRecord, run=st.text(), time_ms=st.integers(0), key=st.text(), value=st.text()),
    st.builds(TagRecord, run=st.text(), time_ms=st.integers(0), key=st.text(), value=st.text()),
    st.builds(EndRecord, run=st.text(), time_ms=st.integers(0)),
)


@given(records=st.lists(_records, max_size=20))
def test_records_come_back_as_they_were(records, tmp_path_factory):
    spool = Spool(tmp_path_factory.mktemp("spool") / "a.jsonl")
    spool.append(records[:5])
    spool.append(records[5:])
    assert [item.record for item in spool.all()] == records


def test_every_kind_of_record_comes_back(tmp_path):
    spool = Spool(tmp_path / "a.jsonl")
    records = [
        StartRecord(run="c", time_ms=1, name=None, parent="p", tags={"stage": "train"}),
        FileRecord(run="c", time_ms=2, file=Path("/data/röntgen.txt"), folder=""),
    ]
    spool.append(records)
    assert [item.record for item in spool.pending()] == records


def test_what_was_sent_is_not_pending(tmp_path):
    spool = Spool(tmp_path / "a.jsonl")
    spool.append(_metric(n) for n in range(5))
    ends = [item.end for item in spool.pending()]
    spool.acknowledge(ends[2])
    assert _steps(spool.pending()) == [3, 4]
    spool.append([_metric(5)])
    assert _steps(spool.pending()) == [3, 4, 5]
    assert _steps(spool.all()) == [0, 1, 2, 3, 4, 5]


def test_a_line_cut_short_is_not_read(tmp_path):
    spool = Spool(tmp_path / "a.jsonl")
    spool.append(_metric(n) for n in range(3))
    content = spool.file.read_bytes()
    for n_bytes in range(len(content)):
        spool.file.write_bytes(content[:n_bytes])
        n_whole = content[:n_bytes].count(b"\n")
        assert _steps(spool.pending()) == list(range(n_whole))


def test_a_damaged_line_costs_only_itself(tmp_path):
    spool = Spool(tmp_path / "a.jsonl")
    spool.append([_metric(0)])
    with spool.file.open("ab") as stream:
        stream.write(b'{"op": "metric", "run": 3}\n\x00\xff\n')
    spool.append([_metric(1)])
    assert _steps(spool.pending()) == [0, 1]


def test_no_file_is_no_records(tmp_path):
    assert list(Spool(tmp_path / "none.jsonl").pending()) == []
    assert Spool(tmp_path / "none.jsonl").n_sent_bytes == 0


def test_only_spools_without_a_writer_are_abandoned(tmp_path):
    old, alive = new_spool(tmp_path, 1, "old"), new_spool(tmp_path, 2, "alive")
    for spool in (alive, old):
        spool.append([_metric(0)])
    with alive.lock():
        assert [spool.file for spool in abandoned_spools(tmp_path)] == [old.file]
    assert [spool.file for spool in abandoned_spools(tmp_path)] == [old.file, alive.file]
