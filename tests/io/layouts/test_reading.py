"""What a reading says about itself, and how dataset.json completes it."""

from pathlib import Path

from pipeline.io.description import Description
from pipeline.io.layouts.reading import Reading, described
from pipeline.io.pairing import CaseFiles

CASES = (
    CaseFiles("a", (Path("/d/a.nii"),), Path("/d/l"), (Path("/d/l/x.nii"), Path("/d/l/y.nii"))),
    CaseFiles("b", (Path("/d/b.nii"),), None),
)


def test_counts_and_files():
    reading = Reading("x", Path("/d"), "", CASES)
    assert reading.n_labelled == 1
    assert {file.name for file in reading.files} == {"a.nii", "b.nii", "x.nii", "y.nii"}


def test_the_description_wins_over_file_names():
    reading = Reading("x", Path("/d"), "", CASES, channel_names=("t1",))
    assert described(reading, Description()).channel_names == ("t1",)
    full = described(reading, Description(channel_names=("T1w",), class_values={"a": (1,)}))
    assert (full.channel_names, full.modality_names) == (("T1w",), ("T1w",))
    assert full.class_values == {"a": (1,)}
