"""Keeps what one training test compiles away from the others, and gives them quiet threads."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.set_num_threads(1)
    yield
    torch._dynamo.reset()
