"""The rules of legality, pinned by value: verifier, emulator and hardware share the one table."""

import numpy as np
import pytest

from transept.golden.config import KV260, PYNQ_Z2, TINY, Blocks, Filters
from transept.golden.isa import Memory
from transept.golden.rules import Choice, Power, Rule, Tiles, longest_row, rules, value

#: Those of ``tiny``, in their order: a sum of products of operands, and its bound. ``(a+b>>2)``:
#: whole tiles; ``a[x, y]``: what operand a chooses; ``power``: the least power of two not below.
TABLE = """\
# LOAD
rows >= 1
words >= 1
memory[0, 1, 1, 1] <= 0 if wide=1
memory[0, 1, 1, 1] <= 0 if stats=1
memory[1, 0, 1, 1] <= 0 if observe=1
memory[1, 0, 1, 1] <= 0 if packed=1
observe <= 0 if packed=1
addr + rows*stride + -1*stride + words*1 + -1*1 <= memory[1599, 1023, 255, 129]
rowstat + rows*1 + -1*1 <= 127 if stats=1
stride + -1*words >= 0 if observe=1
phase <= 3 if observe=1
summary + (rows+phase-1>>2)*stride + words*1 + -1*1 <= 255 if observe=1
# STORE
rows >= 1
words >= 1
memory <= 1
memory[0, 1, 1, 1] <= 0 if wide=1
addr + rows*stride + -1*stride + words*1 + -1*1 <= memory[1599, 1023]
# MATMUL
rows + 1 <= 16
k_tiles >= 1
n_tiles >= 1
row_scale <= 2
row_scale <= 1 if a_mode=1
a_mode[1, 0] <= 0 if halves=1
rows + 1 <= 8 if halves=1
n_tiles <= 1 if accumulate=1 or finish=0
a_addr + rows*a_stride + k_tiles*1 + -1*1 <= 1599
a_rowstat + rows*1 <= 127 if a_mode=1 or row_scale=1 or row_scale=2
b_addr + k_tiles*b_k + -1*b_k + n_tiles*b_n + -1*b_n + 3*b_row <= 1023
out_mode <= 2
param + n_tiles*8 + -1*8 + 7*1 <= 1023 if finish=1
out_addr + rows*out_stride + n_tiles*1 + -1*1 <= out_mode[1599, 1599, 1023] if finish=1
out_stride + -1*n_tiles >= 0 if finish=1
out_rowstat + rows*1 <= 127 if stats=1
out_mode[1, 1, 0] <= 0 if observe=1
phase <= 3 if observe=1
summary + (rows+phase>>2)*out_stride + n_tiles*1 + -1*1 <= 255 if observe=1
# SCORES
rows + 1 <= 16
keys + 1 <= 64
d_tiles >= 1
filter <= 3
parameter <= 0 if filter=0
parameter <= 0 if filter=1
q_addr + rows*q_stride + d_tiles*1 + -1*1 <= 1599
k_addr + 4*(keys>>2)*d_tiles + 4*d_tiles + -1 <= 1023
s_addr + rows*s_stride + (keys>>2)*1 <= 1599
s_stride + -1*(keys>>2) >= 1
rowstat + rows*1 <= 127
select + (rows>>2)*1 <= 15
# CONTEXT
rows + 1 <= 16
keys + 1 <= 64
d_tiles >= 1
(rows>>2)*d_tiles + d_tiles <= 8 if accumulate=1 or finish=0
p_addr + rows*p_stride + (keys>>2)*1 <= 1599
v_addr + 4*(keys>>2)*d_tiles + 4*d_tiles + -1 <= 1023
p_rowstat + rows*1 <= 127 if finish=1
select + (rows>>2)*1 <= 15
out_mode <= 2
param + d_tiles*8 + -1*8 + 7*1 <= 1023 if finish=1
out_addr + rows*out_stride + d_tiles*1 + -1*1 <= out_mode[1599, 1599, 1023] if finish=1
out_stride + -1*d_tiles >= 0 if finish=1
out_rowstat + rows*1 <= 127 if stats=1
# SOFTMAX
rows + 1 <= 16
keys + 1 <= 64
addr + rows*stride + (keys>>2)*1 <= 1599
stride + -1*(keys>>2) >= 1
rowstat + rows*1 <= 127
out_rowstat + rows*1 <= 127
select + (rows>>2)*1 <= 15
# NORM
rows + 1 <= 16
count >= 1
count >= 2 if normalise=1
count + -4*words <= 0
count <= 128
normalise + sum >= 1
2*count*inverse_count + -65536*power(count) + -1*count <= 0 if normalise=1
2*count*inverse_count + -65536*power(count) + count >= 1 if normalise=1
y_addr + rows*y_stride + words*1 + -1*1 <= 1599
x_addr + rows*x_stride + words*1 + -1*1 <= 1599 if residual=1
out_addr + rows*out_stride + words*1 + -1*1 <= 1599 if normalise=1
sum_addr + rows*sum_stride + words*1 + -1*1 <= 1599 if sum=1
out_stride + -1*words >= 0 if normalise=1
sum_stride + -1*words >= 0 if sum=1
rowstat + rows*1 <= 127
param + words*1 + -1*1 <= 31
# ELEMENTWISE
rows + 1 <= 16
count >= 1
count + -4*words <= 0
out_mode <= 1
operation <= 1
y_addr + rows*y_stride + words*1 + -1*1 <= 1599
x_addr + rows*x_stride + words*1 + -1*1 <= 1599
out_addr + rows*out_stride + words*1 + -1*1 <= 1599
out_stride + -1*words >= 0
rowstat + rows*1 <= 127 if stats=1
"""
#: No optional block.
BARE = TINY.replace(
    name="bare",
    blocks=Blocks(
        attention=False, activation=False, norm=False, elementwise=False, halves=False, packed=False
    ),
    filters=Filters(names=(), estimate_multipliers=2),
)


def shown(factor):
    """A factor as TABLE has it."""
    match factor:
        case Tiles(counts, shift, plus):
            return f"({'+'.join(counts)}{f'{plus:+d}' * (plus != 0)}>>{shift})"
        case Choice(operand, values):
            return f"{operand}[{', '.join(map(str, values))}]"
        case Power(operand):
            return f"power({operand})"
    return str(factor)


def line(rule):
    """A rule as TABLE has it."""
    total = " + ".join("*".join(map(shown, term)) for term in rule.terms)
    bound = f">= {rule.least}" if rule.most is None else f"<= {shown(rule.most)}"
    when = " or ".join(f"{operand}={int(wanted)}" for operand, wanted in rule.when)
    return f"{total} {bound}{f' if {when}' * bool(when)}"


def test_the_rules_of_tiny():
    found = []
    for opcode, table in rules(TINY).items():
        found += [f"# {opcode.name}", *map(line, table)]
    assert found == TABLE.splitlines()


def refusals(config):
    """Rules that the configuration has and ``tiny`` has not, each with its opcode."""
    tiny = rules(TINY)
    return [
        (opcode.name, line(rule), rule.explain({}))
        for opcode, table in rules(config).items()
        for rule in table
        if line(rule) not in map(line, tiny[opcode])
    ]


def test_blocks_that_are_not_built_are_refused():
    assert [opcode.name for opcode in rules(BARE)] == ["LOAD", "STORE", "MATMUL"]
    never = "a key filter that looks at keys is not built in bare"
    assert refusals(BARE) == [
        ("LOAD", "1 <= 0 if packed=1", "block 'packed' is not built in bare"),
        ("LOAD", "1 <= 0 if memory=2", "block 'norm' is not built in bare"),
        ("LOAD", "1 <= 0 if memory=3", "block 'activation' is not built in bare"),
        ("LOAD", "1 <= 0 if observe=1", never),
        ("MATMUL", "1 <= 0 if halves=1", "block 'halves' is not built in bare"),
        ("MATMUL", "1 <= 0 if activation=1", "block 'activation' is not built in bare"),
        ("MATMUL", "1 <= 0 if observe=1", never),
    ]


def test_filters_that_are_not_built_are_refused():
    filters = Filters(names=("dense", "window"), estimate_multipliers=2)
    some = TINY.replace(name="some", filters=filters)
    assert [found for found in refusals(some) if found[0] == "SCORES"] == [
        ("SCORES", "1 <= 0 if filter=1", "filter CAUSAL is not built in some"),
        ("SCORES", "1 <= 0 if filter=2", "filter TILE_THRESHOLD is not built in some"),
    ]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        ("a", [0, 1, 3, 7]),
        (-5, -5),
        (Tiles(("a", "b"), 2), [0, 0, 1, 2]),
        (Tiles(("a", "b"), 1, 3), [1, 2, 4, 6]),
        (Choice("a", (10, 20, 30, 40)), [10, 20, 40, 0]),
        (Power("count"), [1, 2, 2048, 4096]),
    ],
)
def test_values_of_factors(factor, expected):
    operands = {"a": [0, 1, 3, 7], "b": [0, 1, 3, 2], "count": [1, 2, 1025, 2049]}
    found = value(factor, {name: np.array(column) for name, column in operands.items()})
    assert np.array_equal(found, expected)


def test_either_bound_is_legal_and_the_next_value_is_not():
    operands = {"a": np.array([2, 3, 4]), "b": np.array([2, 2, 2]), "on": np.array([0, 1, 1])}
    total = (("a", "b"), (-1, "b"))  # 2, 4, 6
    most, least = Rule("", total, most=4), Rule("", total, least=4)
    assert most.breaks(operands).tolist() == [False, False, True]
    assert least.breaks(operands).tolist() == [True, False, False]
    guarded = Rule("", total, least=7, when=(("on", 1), ("a", 2)))
    assert guarded.breaks(operands).tolist() == [True, True, True]
    assert Rule("", total, least=7, when=(("on", 1),)).breaks(operands).tolist() == [
        False,
        True,
        True,
    ]
    chosen = Rule("", total, most=Choice("on", (1, 6)))
    assert chosen.breaks(operands).tolist() == [True, False, False]


def test_what_is_wrong_is_told_by_name():
    rule = Rule("{where} at {a}: {value} of {bound}", (("a", "b"),), most=Choice("where", (0, 9)))
    assert rule.explain({"a": 4, "b": 5, "where": Memory.STAT}) == "STAT at 4: 20 of 9"
    assert Rule("{value} of {bound}", (("a",),), least=3).explain({"a": 2}) == "2 of 3"


def test_the_longest_row_of_elements():
    """255 words, or 4095 elements."""
    assert [longest_row(config) for config in (TINY, PYNQ_Z2, KV260)] == [1020, 4080, 4095]
