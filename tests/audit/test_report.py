import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from audit_builders import TASK, affine, dataset, image_of, label_of, record, task_of

from pipeline.artifacts import Advice, AdviceItem, Finding, Findings, Splits
from pipeline.audit.config import AuditConfig, Waiver
from pipeline.audit.report import ReportInput, render_report
from pipeline.audit.rows import RowWork
from pipeline.audit.splits import make_splits
from pipeline.audit.waivers import apply_waivers, judge
from pipeline.io.store import write_array

BAD_NAME = "<img src=x onerror=alert(1)>"


def report_of(root, labels, extra=(), config=None, task=TASK):
    cases = []
    for n, label in enumerate(labels):
        arrays = (("image", image_of(label.shape, n)), ("label", label))
        stored = [
            write_array(root / "store", f"{n}.{name}", array, affine(), "RAS", root)
            for name, array in arrays
        ]
        case = record(label, f"case_{n:03d}", image=arrays[0][1])
        cases.append(case.model_copy(update={"image": stored[0], "label": stored[1]}))
    settings = config or AuditConfig()
    work = RowWork(task, settings, root)
    rows = [work(case) for case in cases]
    usable = [row.case_id for row in rows if row.fingerprint]
    found = [*(f for row in rows for f in row.findings), *extra]
    marked, unused = apply_waivers(found, settings.waivers)
    findings = Findings(
        verdict=judge(marked), n_cases=len(cases), findings=marked, unused_waivers=unused
    )
    splits = Splits(method="none", seed=1, folds=())
    if len(usable) > 1:
        splits = make_splits(usable, {}, settings)
    return ReportInput(dataset(rows, cases, task), findings, splits, settings, root)


class Outline(HTMLParser):
    """Collects ids, links and images and checks that tags close."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.ids += [known["id"]] if "id" in known else []
        self.links += [known["href"]] if tag == "a" else []
        self.sources += [known["src"]] if "src" in known else []
        assert tag != "img" or known.get("alt")
        if tag not in {"meta", "img", "input", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(html):
    parser = Outline()
    parser.feed(html)
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    return parser


def test_clean_dataset_shows_samples_classes_and_folds(tmp_path):
    html = render_report(report_of(tmp_path, [label_of()] * 6))
    page = outline(html)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    for text in ("Ready to train", "liver", "least foreground", "6 of 6", "KFold"):
        assert text in html
    assert "nothing found" in html
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", html)


def test_worst_findings_have_pictures_up_to_the_limit(tmp_path):
    labels = [label_of() * 7] * 4 + [np.zeros((10, 12, 14), np.uint8)] * 2 + [label_of()] * 3
    report = report_of(tmp_path, labels, config=AuditConfig(max_pictures=5))
    html = render_report(report)
    page = outline(html)
    assert len(page.sources) == 5
    assert html.count("label drawn over the image: E01 undeclared label values, case") == 2
    assert "Do not train yet" in html
    assert html.count("data-viewer=") == html.count('id="data-v') == 5


def test_without_pictures_the_page_carries_no_viewer(tmp_path):
    report = report_of(tmp_path, [label_of() * 7] * 2, config=AuditConfig(max_pictures=0))
    html = render_report(report)
    assert outline(html).sources == []
    assert 'id="viewer' not in html
    assert len(html) < 100_000


def test_advice_and_hit_probability_are_shown_once_they_exist(tmp_path):
    report = report_of(tmp_path, [label_of()] * 2)
    assert 'id="advice"' not in render_report(report)
    item = AdviceItem(
        check_id="T05",
        headline="do not mirror <left>",
        reason="because",
        settings={"train.mirror": [1, 2]},
    )
    advice = Advice(items=(item,), patch_hits={"liver": 0.25})
    html = render_report(replace(report, advice=advice))
    for text in ("T05 do not mirror &lt;left&gt;", "train.mirror: [1, 2]", "25 %"):
        assert text in html


def test_a_thousand_cases_with_five_thousand_findings_stay_usable(tmp_path):
    small = report_of(tmp_path, [label_of()] * 2, config=AuditConfig(max_pictures=0))
    names = [f"patient_{n:04d}_with_a_long_name" for n in range(1000)]
    first, case = small.dataset.rows[0], small.dataset.manifest.cases[0]
    rows = [first.model_copy(update={"case_id": name}) for name in names]
    cases = [case.model_copy(update={"case_id": name}) for name in names]
    text = "a sentence about what was found, with a number or two, as long as they usually are"
    found = tuple(
        Finding(check_id=check, severity="warning", case_id=name, message=text, fix=text, value=0.1)
        for check in ("S03", "S04", "S05", "S09", "E05")
        for name in names
    )
    findings = small.findings.model_copy(update={"findings": found, "n_cases": 1000})
    report = replace(small, dataset=dataset(rows, cases), findings=findings)
    assert len(render_report(report).encode()) < 5_000_000


def test_names_from_the_data_cannot_become_markup(tmp_path):
    finding = Finding(
        check_id="F01", severity="error", case_id=BAD_NAME, message=BAD_NAME, fix=BAD_NAME
    )
    html = render_report(
        report_of(tmp_path, [label_of()] * 2, extra=[finding], task=task_of(BAD_NAME, "b"))
    )
    assert "<img src=x" not in html
    outline(html)


def test_waivers_are_listed_with_their_reason(tmp_path):
    waivers = (
        Waiver(check_id="E01", reason="painted for a test"),
        Waiver(check_id="G04", reason="never needed"),
    )
    html = render_report(
        report_of(tmp_path, [label_of() * 7] * 2, config=AuditConfig(waivers=waivers))
    )
    assert html.count("painted for a test") >= 2
    assert "matched nothing" in html


@pytest.mark.parametrize("n_cases", [0, 1])
def test_nothing_usable_is_still_a_report(tmp_path, n_cases):
    labels = [label_of()[:4, :4, :4]] * n_cases
    html = render_report(report_of(tmp_path, labels))
    assert "not enough usable cases" in html
    outline(html)
