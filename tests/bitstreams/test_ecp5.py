"""Clock and pins of the ECP5 boards."""

import pytest

from transept.bitstreams.ecp5 import VCO_MHZ, Pll, constraints, ecp5_board, find_pll
from transept.golden.config import ULX3S_BOARD


@pytest.mark.parametrize(
    ("mhz", "pll"),
    [
        (25, Pll(24, 24)),
        (35, Pll(21, 15)),
        (50, Pll(24, 12)),
        (75, Pll(24, 8)),
        (80, Pll(16, 5)),  # at the lower end of the oscillator's range
        (100, Pll(24, 6)),
    ],
)
def test_dividers_of_a_clock(mhz, pll):
    """The oscillator, 25 MHz * feedback, runs at 400 to 800 MHz, at 600 if that makes the clock."""
    assert find_pll(25, mhz) == pll
    assert 25 * pll.feedback == mhz * pll.output
    assert VCO_MHZ == (400, 800)
    assert 400 <= 25 * pll.feedback <= 800


@pytest.mark.parametrize("mhz", [2, 62, 900])
def test_clocks_that_no_pll_makes(mhz):
    with pytest.raises(ValueError, match=f"a PLL makes no {mhz} MHz of 25 MHz"):
        find_pll(25, mhz)


def test_the_ulx3s_by_value():
    board = ecp5_board("ulx3s_85f")
    assert (board.device, board.package, board.speed) == ("85k", "CABGA381", 6)
    assert board.pins == {"clock": "G2", "rx": "M1", "tx": "L4", "busy": "B2", "keep_awake": "L2"}
    assert (board.oscillator_mhz, board.memory_bytes, board.baud) == (25, 65536, 1_000_000)
    assert board.config == ULX3S_BOARD
    assert board.pll == find_pll(25, board.config.clock_mhz)


def test_every_pin_is_placed():
    lines = constraints(ecp5_board("ulx3s_85f")).splitlines()
    assert lines[0] == 'FREQUENCY PORT "clock" 25 MHZ;'
    assert 'LOCATE COMP "tx" SITE "L4";' in lines
    assert 'IOBUF PORT "rx" IO_TYPE=LVCMOS33 PULLMODE=UP;' in lines
    assert len(lines) == 1 + 2 * 5


def test_an_unknown_board_is_named():
    with pytest.raises(ValueError, match="no ECP5 board 'de10', there is ulx3s_85f"):
        ecp5_board("de10")
