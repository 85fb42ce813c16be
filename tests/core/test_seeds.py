"""Random numbers are a function of the seed and the purpose."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.seeds import generator_for

purposes = st.lists(st.integers(0, 10**6) | st.text("abcxyz_", min_size=1, max_size=8), max_size=3)


def draw(seed: int, *purpose: str | int) -> list[int]:
    return generator_for(seed, *purpose).integers(0, 2**62, 4).tolist()


@given(st.integers(-(10**9), 10**9), purposes)
def test_the_same_purpose_gives_the_same_numbers(seed, purpose):
    assert draw(seed, *purpose) == draw(seed, *purpose)


@given(st.integers(0, 10**6), purposes, st.integers(0, 10**6), purposes)
def test_another_seed_or_purpose_gives_other_numbers(seed, purpose, other_seed, other_purpose):
    # Words and counters are compared as text: 7 and "7" are the same purpose.
    same = [str(x) for x in (seed, *purpose)] == [str(x) for x in (other_seed, *other_purpose)]
    assert (draw(seed, *purpose) == draw(other_seed, *other_purpose)) == same


def test_numbers_do_not_depend_on_the_process():
    code = (
        "from pipeline.core.seeds import generator_for;"
        "print(generator_for(5, 'batch', 417).integers(0, 2**62, 4).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == str(draw(5, "batch", 417))


def test_each_call_starts_afresh():
    used = generator_for(1, "a")
    used.normal(size=100)
    assert generator_for(1, "a").integers(0, 2**62) == draw(1, "a")[0]
