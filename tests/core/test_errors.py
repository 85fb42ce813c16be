"""Errors keep what, where and fix, also through a process boundary."""

import pickle
import subprocess
import sys

import pytest

from pipeline.core import errors
from pipeline.core.errors import FileFormatError, VoxlineError, did_you_mean


def subclasses(kind: type[VoxlineError]) -> list[type[VoxlineError]]:
    return [kind, *(s for below in kind.__subclasses__() for s in subclasses(below))]


def make(kind: type[VoxlineError]) -> VoxlineError:
    if issubclass(kind, FileFormatError):
        return kind("broken", check_id="F03", where="a.nii.gz", fix="copy it again")
    return kind("broken", where="a.nii.gz", fix="copy it again")


ALL = [kind for kind in subclasses(VoxlineError) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_survives_pickling(kind):
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_an_error_from_another_process_is_whole():
    code = (
        "import pickle, sys; from pipeline.core.errors import FileFormatError;"
        "e = FileFormatError('cut off', check_id='F03', where='x.nii.gz', fix='copy again');"
        "sys.stdout.buffer.write(pickle.dumps(e))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    error = pickle.loads(done.stdout)  # noqa: S301  # our own bytes
    assert isinstance(error, FileFormatError)
    assert (error.what, error.check_id, error.where, error.fix) == (
        "cut off",
        "F03",
        "x.nii.gz",
        "copy again",
    )


def test_the_text_has_one_line_per_part_and_none_for_absent_parts():
    assert str(make(errors.DataError)).splitlines() == [
        "DataError: broken",
        "  where: a.nii.gz",
        "  fix:   copy it again",
    ]
    assert str(errors.DataError("broken")) == "DataError: broken"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.UsageError, 3),
        (errors.ConfigError, 3),
        (errors.DataError, 2),
        (errors.GeometryError, 2),
        (errors.InterruptedByUserError, 130),
    ],
)
def test_exit_status_follows_the_contract(kind, status):
    assert make(kind).exit_status == status


@pytest.mark.parametrize(
    ("name", "known", "answer"),
    [
        ("lerning_rate", ["learning_rate", "momentum"], "did you mean 'learning_rate'?"),
        ("xyz", ["b", "a"], "accepted: a, b"),
        ("xyz", [], "nothing is accepted here"),
    ],
)
def test_did_you_mean(name, known, answer):
    assert did_you_mean(name, known) == answer
