"""Files are paired by name, and what has no partner is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import SourceStamp
from pipeline.io.pairing import pair_files, split_channel, stamp_file, strip_role

ROOT = Path("/data")


def pair(images, labels, **options):
    return pair_files(
        [ROOT / "images" / name for name in images],
        [ROOT / "labels" / name for name in labels],
        root=ROOT,
        **options,
    )


def summary(pairing):
    return [
        (c.case_id, [f.name for f in c.images], c.label.name if c.label else None)
        for c in pairing.cases
    ]


@pytest.mark.parametrize(
    ("image", "label", "case_id"),
    [
        ("a.nii.gz", "a.nii.gz", "a"),
        ("a.nii", "a.nii.gz", "a"),
        ("a_0000.nii.gz", "a.nii.gz", "a"),
        ("a_0000.nii.gz", "a_seg.nii.gz", "a"),
        ("a.nii.gz", "a_label.nii.gz", "a"),
        ("a_img.nii.gz", "a_mask.nii.gz", "a"),
        ("image-7.nii.gz", "Label-7.nii.gz", "7"),
        ("a_0003.nii.gz", "a_0003.nii.gz", "a_0003"),
        ("T1_volume.nii", "T1-segmentation.nii", "T1"),
    ],
)
def test_names_that_pair(image, label, case_id):
    pairing = pair([image], [label])
    assert summary(pairing) == [(case_id, [image], label)]
    assert pairing.problems == ()


@pytest.mark.parametrize("label", ["b.nii.gz", "a2.nii.gz", "a_0001.nii.gz", "a_left.nii.gz"])
def test_names_that_do_not(label):
    pairing = pair(["a.nii.gz"], [label])
    assert summary(pairing) == [("a", ["a.nii.gz"], None)]
    assert {p.check_id for p in pairing.problems} == {"F01"}
    assert [p.file for p in pairing.problems] == ["images/a.nii.gz", f"labels/{label}"]


def test_channels_are_in_order_and_every_case_needs_all():
    pairing = pair(
        ["b_0001.nii", "a_0001.nii", "a_0000.nii", "b_0000.nii", "c_0000.nii"],
        ["a.nii", "b.nii", "c.nii"],
    )
    assert pairing.by_channel
    assert summary(pairing) == [
        ("a", ["a_0000.nii", "a_0001.nii"], "a.nii"),
        ("b", ["b_0000.nii", "b_0001.nii"], "b.nii"),
    ]
    (problem,) = pairing.problems
    assert problem.file == "images/c_0000.nii"
    assert "_0000, other cases have _0000, _0001" in problem.message


def test_one_name_with_two_suffixes_is_nobodys_case():
    pairing = pair(["a.nii", "a.nii.gz", "b.nii"], ["a.nii", "b.nii"])
    assert [case_id for case_id, _, _ in summary(pairing)] == ["b"]
    assert sorted(p.file for p in pairing.problems) == [
        "images/a.nii",
        "images/a.nii.gz",
        "labels/a.nii",
    ]


def test_images_without_labels_are_no_problem_if_there_are_no_labels_at_all():
    assert pair(["a.nii", "b.nii"], []).problems == ()
    assert len(pair(["a_0000.nii", "a_0001.nii"], []).cases) == 2
    assert len(pair(["a_0000.nii", "a_0001.nii"], [], by_channel=True).cases) == 1


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True), st.booleans(), min_size=1
    ),
    st.randoms(),
)
def test_every_file_ends_up_in_a_case_or_in_a_problem(names, random):
    images = [f"{name}.nii.gz" for name in names]
    labels = [f"{name}_seg.nii.gz" for name, has_label in names.items() if has_label]
    random.shuffle(images)
    pairing = pair(images, labels)
    assert sorted(f.name for c in pairing.cases for f in c.images) == sorted(images)
    assert sum(c.label is not None for c in pairing.cases) == len(labels)
    assert len(pairing.problems) == (len(images) - len(labels) if labels else 0)
    assert pairing == pair(sorted(images), labels)


def test_parts_of_names():
    assert split_channel("liver_1_0002") == ("liver_1", 2)
    assert split_channel("liver_001") == ("liver_001", None)
    assert strip_role("seg") == "seg"
    assert strip_role("img_7_seg") == "7"
    assert strip_role("gt-4") == "4"


def test_a_link_to_nowhere_is_stamped_as_unseen(tmp_path):
    link = tmp_path / "case.nii.gz"
    link.symlink_to(tmp_path / "gone.nii.gz")
    assert stamp_file(link, tmp_path) == SourceStamp(file="case.nii.gz", n_bytes=-1, modified_ns=-1)
    (tmp_path / "gone.nii.gz").write_bytes(b"here now")
    assert stamp_file(link, tmp_path).n_bytes == 8


def test_upper_and_lower_case_matter_only_where_nothing_else_pairs():
    pairing = pair(["Case1.nii.gz", "b.nii.gz"], ["case1.nii.gz", "b.nii.gz"])
    assert summary(pairing) == [
        ("Case1", ["Case1.nii.gz"], "case1.nii.gz"),
        ("b", ["b.nii.gz"], "b.nii.gz"),
    ]
    assert pairing.problems == ()
    exact = pair(["A.nii", "a.nii"], ["a.nii"])
    assert summary(exact) == [("A", ["A.nii"], None), ("a", ["a.nii"], "a.nii")]
    unclear = pair(["aa.nii"], ["Aa.nii", "aA.nii"])
    assert summary(unclear) == [("aa", ["aa.nii"], None)]


def test_accents_pair_however_they_are_written():
    """macOS writes an accent as a letter of its own."""
    root = Path("/d")
    pairing = pair_files([root / "i/Rene\u0301.nii"], [root / "l/Ren\u00e9.nii"], root=root)
    assert [case.label for case in pairing.cases] == [root / "l/Ren\u00e9.nii"]
    assert pairing.problems == ()
