"""The curve of a range test is a picture that is the same every time."""

import numpy as np

from pipeline.reporting.range_plot import draw_range

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_same_curve_gives_the_same_bytes():
    rates = np.geomspace(1e-6, 1, 20).tolist()
    losses = [1 - 0.3 * np.sin(n / 6).item() for n in range(20)]
    first, second = (draw_range(rates, losses, losses, suggestion=1e-3) for _ in range(2))
    assert first.startswith(PNG)
    assert first == second
    assert draw_range(rates, losses, losses, suggestion=None) != first
    assert draw_range(rates, losses, losses, suggestion=1e-3, planned=3e-3) != first


def test_a_test_that_broke_off_at_once_is_still_drawn():
    assert draw_range([], [], [], suggestion=None).startswith(PNG)
    assert draw_range([1e-6], [1.0], [1.0], suggestion=None).startswith(PNG)
