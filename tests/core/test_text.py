from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.text import some_of


def test_names_beyond_the_first_are_counted():
    assert some_of([], 2) == ""
    assert some_of(["a", "b"], 2) == "a, b"
    assert some_of(["a", "b", "c"], 2) == "a, b and 1 more"


@given(st.lists(st.text("abc", min_size=1, max_size=3)), st.integers(1, 5))
def test_every_name_is_shown_or_counted(names, n_most):
    text = some_of(names, n_most)
    n_counted = int(text.split(" and ")[1].split()[0]) if " and " in text else 0
    n_shown = len(text.split(" and ")[0].split(", ")) if names else 0
    assert n_shown + n_counted == len(names)
