"""Numbers arrive as they are, as a copy."""

import numpy as np
import pytest
import torch

from pipeline.transforms.to_device import to_device

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_numbers_arrive_in_order_whatever_their_strides(device):
    values = np.arange(24.0).reshape(2, 3, 4)[:, ::-1].transpose(2, 0, 1)
    arrived = to_device(values, torch.device(device))
    assert arrived.dtype == torch.float32
    assert arrived.device.type == device
    assert arrived.tolist() == values.tolist()


def test_a_list_of_rows_becomes_an_index():
    index = to_device([2, 0], torch.device("cpu"), np.int64)
    assert torch.arange(3.0).index_select(0, index).tolist() == [2.0, 0.0]


def test_the_tensor_is_a_copy():
    values = np.zeros(3, dtype=np.float32)
    arrived = to_device(values, torch.device("cpu"))
    values[0] = 1.0
    assert arrived.tolist() == [0.0, 0.0, 0.0]
