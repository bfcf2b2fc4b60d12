"""Buses by the widths that the world outside expects, and what the largest values need."""

import pytest
from amaranth.hdl import Shape
from amaranth.lib.wiring import In, Out
from sizes import FULL, named

from transept.golden.config import TINY
from transept.golden.isa import TALLIES
from transept.rtl.interfaces import axi4, axi4_port, axi_lite, clipped_layout, engine_members
from transept.rtl.link.bridge import word_port

ADDRESS = {"addr": 32, "len": 8, "size": 3, "burst": 2, "cache": 4, "prot": 3, "id": 1}


def widths(signature, flow):
    """Of the members in one direction."""
    return {
        name: Shape.cast(member.shape).width
        for name, member in signature.members.items()
        if member.flow is flow
    }


@pytest.mark.parametrize("cfg", [TINY, *FULL], ids=named)
def test_axi4(cfg):
    bits = cfg.memories.axi_data_bits
    address = {f"{way}{name}": width for way in ("aw", "ar") for name, width in ADDRESS.items()}
    master = {
        **address,
        **{"wdata": bits, "wstrb": bits // 8, "wlast": 1},
        **dict.fromkeys(("awvalid", "wvalid", "arvalid", "bready", "rready"), 1),
    }
    assert widths(axi4(cfg), Out) == master
    assert widths(axi4(cfg), In) == {
        **{"rdata": bits, "rresp": 2, "rlast": 1, "rid": 1, "bresp": 2, "bid": 1},
        **dict.fromkeys(("awready", "wready", "arready", "bvalid", "rvalid"), 1),
    }
    besides = {"awlock": 1, "arlock": 1, "awqos": 4, "arqos": 4}
    assert widths(axi4_port(cfg), Out) == master | besides
    assert widths(axi4_port(cfg), In) == widths(axi4(cfg), In)


def test_axi4_lite():
    assert widths(axi_lite(12), Out) == {
        **{"awaddr": 12, "awprot": 3, "wdata": 32, "wstrb": 4, "araddr": 12, "arprot": 3},
        **dict.fromkeys(("awvalid", "wvalid", "arvalid", "bready", "rready"), 1),
    }
    assert widths(axi_lite(12), In) == {
        **{"bresp": 2, "rdata": 32, "rresp": 2},
        **dict.fromkeys(("awready", "wready", "arready", "bvalid", "rvalid"), 1),
    }


def test_the_words_of_the_link():
    """A byte address of 32 bits is a word address of 30."""
    assert widths(word_port(), Out) == {"valid": 1, "write": 1, "addr": 30, "data": 32}
    assert widths(word_port(), In) == {"ready": 1, "answer": 1, "value": 32, "error": 1}


def test_engines():
    shapes = {name: member for name, member in engine_members().items() if member.is_port}
    assert {name: Shape.cast(member.shape).width for name, member in shapes.items()} == {
        **{"retire": 1, "busy": 1, "stall": 3}
    }
    assert all(member.flow is Out for member in shapes.values())


@pytest.mark.parametrize("cfg", [TINY, *FULL], ids=named)
def test_every_element_of_an_instruction_may_be_clipped(cfg):
    layout = clipped_layout(cfg)
    most = cfg.geometry.max_rows * cfg.geometry.max_hidden
    assert 1 << Shape.cast(layout["count"].shape).width > most
    assert 1 << Shape.cast(layout["tally"].shape).width >= TALLIES
