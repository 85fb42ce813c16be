import numpy as np
import pytest
from monai.metrics.utils import create_table_neighbour_code_to_surface_area

from pipeline.metrics.surfels import CORNERS, surfel_areas_mm2

# MONAI numbers the corners of the cube in another order: its convolution kernel flipped.
MONAI_BITS = [7 - (4 * i + 2 * j + k) for i, j, k in CORNERS]


# MONAI computes in float32: 1e-6 of the largest area.
@pytest.mark.parametrize(
    "spacing_mm", [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (0.7, 0.7, 5.0), (3.0, 1.0, 0.5)]
)
def test_the_area_of_every_code_is_the_one_of_the_published_table(spacing_mm):
    table = create_table_neighbour_code_to_surface_area(spacing_mm)[0].numpy()
    codes = [sum(1 << MONAI_BITS[b] for b in range(8) if code >> b & 1) for code in range(256)]
    ours = surfel_areas_mm2(spacing_mm)
    np.testing.assert_allclose(ours, table[codes], rtol=0, atol=1e-6 * table.max())
