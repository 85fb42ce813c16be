import re
from pathlib import Path

import pipeline.audit.checks
from pipeline.audit.catalog import CHECK_TITLES, title_of


def test_every_check_of_the_code_has_a_title():
    folder = Path(pipeline.audit.checks.__file__).parent
    used = {
        check_id
        for file in folder.glob("*.py")
        for check_id in re.findall(r'check_id="([A-Z][0-9]{2})"', file.read_text())
    }
    assert used
    assert used <= set(CHECK_TITLES)


def test_unknown_checks_show_their_id():
    assert title_of("Z99") == "Z99"
    assert title_of("E01") == "undeclared label values"
