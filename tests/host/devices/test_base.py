"""Device memory: buffers on pages, in the first gap that holds them."""

import numpy as np
import pytest

from transept.host.devices.base import PAGE, Allocator, OutOfMemoryError
from transept.host.devices.catalogue import ACCELERATORS, BOARD, check_options, open_device


def test_buffers_are_in_the_first_gap():
    assert PAGE == 4096
    allocator = Allocator(np.zeros(5 * 4096, np.uint8), 0x8000)
    buffers = [allocator.allocate(size) for size in (4096, 4097, 1)]
    assert [buffer.address - 0x8000 for buffer in buffers] == [0, 4096, 3 * 4096]
    allocator.release(buffers[1])
    with pytest.raises(OutOfMemoryError, match=r"^buffer of 8193 bytes, .* has 4096 left$"):
        allocator.allocate(8193)
    assert allocator.allocate(8192).address == buffers[1].address
    assert allocator.allocate(4096).address == 0x8000 + 4 * 4096
    with pytest.raises(OutOfMemoryError, match=r"^buffer of 1 bytes, device memory has 0 left$"):
        allocator.allocate(1)
    allocator.release_all()
    whole = allocator.allocate(5 * 4096)
    assert (whole.address, whole.nbytes) == (0x8000, 5 * 4096)


def test_a_buffer_is_zeroed_and_no_other_is():
    memory = np.full(3 * 4096, 7, np.uint8)
    allocator = Allocator(memory, 0)
    allocator.allocate(10)
    buffer = allocator.allocate(4000)
    assert not buffer.array.any()
    assert np.flatnonzero(memory == 0).tolist() == [*range(10), *range(4096, 8096)]
    buffer.array[:] = 3
    assert memory[4096:8096].tolist() == [3] * 4000


def test_options_are_those_of_the_device():
    assert (ACCELERATORS, BOARD) == (("rtl", "emulator"), "pynq")
    with pytest.raises(ValueError, match=r"^device emulator has no option 'config', there are dr"):
        check_options("emulator", {"seed": 1, "config": 2})
    with pytest.raises(ValueError, match=r"'options', there are backpressure, dram_base, dram_by"):
        check_options("rtl", {"progress": None, "memory": "board", "options": 1})
    with pytest.raises(ValueError, match=r"has no option 'sed', there are dram_bytes, seed$"):
        open_device("emulator", None, sed=1)
    with pytest.raises(ValueError, match=r"^pynq is not installed here; see docs/board\.md$"):
        check_options("pynq", {"bitfile": "a.bit"})
