"""What people and programs read while work goes on."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import log
from pipeline.core.log import JsonLinesHandler, configure_logging, format_duration, progress_bar


@pytest.fixture
def pipeline_logger():
    logger = logging.getLogger("pipeline")
    before = (logger.handlers, logger.level, logger.propagate)
    yield logger
    logger.handlers, logger.level, logger.propagate = before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert format_duration(seconds) == text


@given(st.floats(0, 1e7))
def test_no_duration_shows_sixty_of_a_unit(seconds):
    words = format_duration(seconds).split()
    assert all(int(n) < 60 for n, unit in zip(words[::2], words[1::2], strict=True) if unit != "h")


def test_each_record_is_one_line_of_json(tmp_path):
    file = tmp_path / "train" / "run.log.jsonl"
    logger = logging.getLogger("test_log.json")
    logger.propagate = False
    handler = JsonLinesHandler(file, "train")
    logger.addHandler(handler)
    try:
        logger.warning("case %s:\ntwo lines, 5 µm", "a")
        logger.error("second")
    finally:
        logger.removeHandler(handler)
        handler.close()
    first, second = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert first["message"] == "case a:\ntwo lines, 5 µm"
    assert first["level"] == "warning"
    assert first["stage"] == "train"
    assert first["time_s"] <= second["time_s"]


def test_a_second_handler_adds_to_the_file(tmp_path):
    for message in ("one", "two"):
        handler = JsonLinesHandler(tmp_path / "x.jsonl", "audit")
        handler.emit(logging.makeLogRecord({"msg": message}))
        handler.close()
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["one", "two"]


def test_logs_go_to_stderr_and_stdout_stays_clean(capsys, pipeline_logger):
    configure_logging()
    logging.getLogger("pipeline.core.x").info("seen")
    logging.getLogger("pipeline.core.x").debug("not seen")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "INFO seen\n"
    configure_logging(verbose=True)
    logging.getLogger("pipeline.core.x").debug("now seen")
    assert "now seen" in capsys.readouterr().err


def test_plain_progress_says_how_much_is_left(capsys, monkeypatch):
    clock_s = iter([0.0, 0.0, 1.0, 20.0, 21.0, 40.0])
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock_s))
    with progress_bar("training", total=10, done=2) as bar:
        for note in ("a", "loss 0.5", "b", "loss 0.25"):
            bar.advance(note=note)
    captured = capsys.readouterr()
    assert captured.out == ""
    # Two of eight are done after 20 s: a minute is left.
    assert captured.err.splitlines() == [
        "training: 2/8, 1 min 00 s left  loss 0.5",
        "training: 4/8, 40 s left  loss 0.25",
    ]


def test_time_left_that_is_known_is_not_guessed(capsys, monkeypatch):
    clock_s = iter([0.0, 0.0, 20.0])
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock_s))
    with progress_bar("training", total=10) as bar:
        bar.advance(left_s=30.0)
    assert capsys.readouterr().err == "training: 1/10, 30 s left\n"
    monkeypatch.undo()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("training", total=10) as bar:
        bar.advance(left_s=185.0)
    assert "3 min 05 s" in capsys.readouterr().err


def test_progress_without_advance_divides_by_nothing(capsys, monkeypatch):
    clock_s = iter([0.0, 0.0, 60.0, 120.0])
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock_s))
    with progress_bar("waiting", total=3) as bar:
        bar.advance(0, note="still at the first")
        bar.advance(1)
    assert "1/3" in capsys.readouterr().err


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("reading", total=2) as bar:
        bar.advance(note="case_001")
        bar.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2/2" in captured.err
    assert "case_001" in captured.err
