"""The shape annotations of nfs_lib are really enforced while the tests run (see conftest.py)."""

import jaxtyping
import numpy as np
import pytest
import torch

from nfs_lib.images import to_uint8


def test_a_wrong_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError, match="to_uint8"):
        to_uint8(torch.zeros(4, 8, 8))  # four channels where three are declared


def test_a_wrong_type_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError, match="to_uint8"):
        to_uint8(np.zeros((3, 8, 8), np.float32))


def test_the_right_shape_passes():
    assert to_uint8(torch.zeros(2, 3, 8, 6)).shape == (2, 8, 6, 3)
