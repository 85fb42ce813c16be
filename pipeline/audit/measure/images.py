"""The values of one image channel."""

import numpy as np
from jaxtyping import Real

from pipeline.audit.measures import LEVELS, ChannelMeasures


def measure_channel(channel: Real[np.ndarray, "i j k"]) -> ChannelMeasures:
    """To be written."""
    return ChannelMeasures(
        quantiles=(0.0,) * len(LEVELS),
        mean=0.0,
        std=0.0,
        minimum_share=0.0,
        maximum_share=0.0,
        mode=0.0,
        body_threshold=0.0,
        thumbnail="",
    )
