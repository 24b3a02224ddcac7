"""One thread of torch a test, as `nox` has it: tiny networks are many times slower where threads wait
for each other on a busy machine. Tests of threads set their own number."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Leaves the number as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
