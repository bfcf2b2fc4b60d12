"""Rotary position embeddings of queries and keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transept.golden.graph import GraphError, Lengths, Value
from transept.golden.isa import Opcode
from transept.golden.numerics.elementwise import rotate
from transept.golden.numerics.fixed import Array
from transept.golden.numerics.namespaces import array_namespace
from transept.golden.ops.norm import check_rows, check_shape
from transept.golden.ops.parameters import check_numbers

__all__ = ["Rotary"]


@dataclass(frozen=True, eq=False)
class Rotary:
    """``out = x * cos + partner(x) * sin``, head by head (``numerics.elementwise.rotate``).

    x: int16[.., heads * d], the partner of element i of a head is i + d / 2, and the other way
    round; cos, sin: int16[.., d], of the positions of the rows, with the sines of the first half
    negative; out: int8[.., heads * d]; shift: 0..15.
    """

    name: str
    x: str
    cos: str
    sin: str
    out: str
    heads: int
    shift: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """x, cos and sin."""
        return (self.x, self.cos, self.sin)

    @property
    def outputs(self) -> tuple[str, ...]:
        """out."""
        return (self.out,)

    def check(self, values: Mapping[str, Value]) -> None:
        """GraphError if the heads do not divide x into pairs as wide as the cosines, values differ
        in dimension or have other types, or the shift is outside its limits."""
        x, cos, sin, out = (values[name] for name in (*self.inputs, self.out))
        check_rows(self.name, [x])
        check_rows(self.name, [cos, sin])
        check_shape(self.name, x, out)
        if out.bits != 8:
            raise GraphError(f"{self.name} makes 8 bits, {out.name} has {out.bits}")
        if x.width != self.heads * cos.width or cos.width % 2:
            raise GraphError(
                f"{self.name} has {self.heads} heads of {cos.width} elements for the {x.width} of "
                f"{x.name}, pairs are due"
            )
        if cos.dim != x.dim:
            raise GraphError(f"{self.name}: {x.name} and {cos.name} differ in rows")
        check_numbers(self.name, Opcode.ELEMENTWISE, shift=self.shift)

    def evaluate(
        self, values: Mapping[str, Value], arrays: Mapping[str, Array], lengths: Lengths
    ) -> dict[str, Array]:
        """out."""
        x, cos, sin = (arrays[name] for name in self.inputs)
        xp = array_namespace(x)
        heads = xp.reshape(x, (*x.shape[:-1], self.heads, -1))
        half = heads.shape[-1] // 2
        partner = xp.concat([heads[..., half:], heads[..., :half]], axis=-1)
        cos, sin = (part[..., None, :] for part in (cos, sin))
        out = rotate(heads, partner, cos, sin, shift=self.shift)
        return {self.out: xp.reshape(out, x.shape)}

    def macs(self, *rows: Sequence[int]) -> int:
        """None on the array."""
        return 0
