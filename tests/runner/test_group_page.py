"""The page of several trainings; whole commands that write it are in test_trainings, test_sweep."""

import html
import re
from pathlib import Path

from pipeline.runner.group_page import GroupPage, Member, write_group_page


def about(**changes) -> GroupPage:
    values = {"title": "Sweep", "subtitle": "", "dice": None, "dice_name": "Dice", "note": ""}
    return GroupPage(**{**values, **changes})


def history(folder: Path, *rows: str) -> Path:
    folder.mkdir(parents=True)
    lines = ["step,train/loss,val/dice_pooled", *rows]
    (folder / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_curves_of_all_trainings_share_a_chart(tmp_path):
    one = history(tmp_path / "one" / "fold_0", "10,1.5,0.2", "20,1.0,0.6")
    two = history(tmp_path / "two" / "fold_0", "10,1.4,", "20,0.9,")
    members = [Member("one", one, None), Member("two", two, None)]
    page = write_group_page(tmp_path, about(), members).read_text(encoding="utf-8")
    dice, loss = re.findall(r'<figure class="curves">.*?</figure>', page, re.DOTALL)
    assert dice.count("<path") == 1
    assert loss.count("<path") == 2


def test_a_training_that_failed_before_its_first_round_is_named_with_its_reason(tmp_path):
    members = [Member("rate=<9>", tmp_path / "nowhere", None, 'loss is not finite & "odd"')]
    page = write_group_page(tmp_path, about(), members).read_text(encoding="utf-8")
    assert "1 of 1 failed" in page
    assert "<9>" not in page
    assert 'rate=<9></b>: loss is not finite & "odd"' in html.unescape(page)
    assert "href=" not in page.split("<main")[1].split("</main>")[0]


def test_a_page_beside_a_training_is_linked_relative_to_this_one(tmp_path):
    folder = history(tmp_path / "runs" / "fold_0", "10,1.5,0.2")
    (folder / "report.html").write_text("", encoding="utf-8")
    file = write_group_page(tmp_path / "train", about(), [Member("a", folder, None)])
    assert 'href="../runs/fold_0/report.html"' in file.read_text(encoding="utf-8")


def test_no_more_lines_than_can_be_told_apart(tmp_path):
    members = [
        Member(f"s{n}", history(tmp_path / f"s{n}", "10,1.5,0.2", "20,1,0.3"), None)
        for n in range(15)
    ]
    page = write_group_page(tmp_path, about(), members).read_text(encoding="utf-8")
    chart = re.findall(r'<figure class="curves">.*?</figure>', page, re.DOTALL)[0]
    assert chart.count("<path") == 12
    assert "The first 12 of the table are drawn" in page
