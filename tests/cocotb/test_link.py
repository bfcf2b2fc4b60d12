"""The serial link through its pins, against its golden model."""

from link_system import LinkSystem
from settings import prove

from transept.golden.config import TINY


def test_link():
    assert prove(LinkSystem(TINY), "link", TINY) == 6
