"""Encoder models by their shape alone: what the accelerator needs for a layer, and what of it the
compiler predicts before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from transept.golden.config import Config
from transept.golden.isa import Opcode
from transept.golden.layouts import packed_words
from transept.host.compiler.executable import Executable
from transept.host.compiler.picture import encoder_layer
from transept.host.runtime.region import Region

__all__ = ["BERT_BASE", "MINILM", "Encoder", "Layer", "traffic"]


@dataclass(frozen=True)
class Encoder:
    """A post-norm encoder: so many layers of one shape, widths in elements."""

    name: str
    layers: int
    hidden: int
    heads: int
    inner: int

    def layer(self, config: Config, batch: int, tokens: int) -> Layer:
        """One layer with random weights, compiled for ``batch`` sequences.

        Raises
        ------
        CompileError
            If it does not fit the accelerator.
        """
        graph = encoder_layer(self.hidden, self.heads, self.inner, tokens)
        region = Region(self.name, graph, config)
        shape = region.shape(batch, {"rows": tokens})
        return Layer(region, region.executable(shape), region.macs(shape))


#: Sentence-transformers' all-MiniLM-L6-v2.
MINILM = Encoder("MiniLM", 6, 384, 12, 1536)
#: Devlin et al. 2019.
BERT_BASE = Encoder("BERT-base", 12, 768, 12, 3072)


@dataclass(frozen=True, eq=False)
class Layer:
    """A compiled layer; macs: multiply-accumulates of a run."""

    region: Region
    executable: Executable
    macs: int

    @property
    def cycles(self) -> int:
        """As the compiler predicts them."""
        return self.executable.predicted_cycles

    @property
    def utilisation(self) -> float:
        """Share of the array's peak, if the prediction holds."""
        return self.macs / self.region.config.macs / self.cycles

    @property
    def intensity(self) -> float:
        """Multiply-accumulates for each byte of memory traffic."""
        return self.macs / traffic(self.executable, self.region.config)


def traffic(executable: Executable, config: Config) -> int:
    """Bytes that a launch reads and writes: instructions, weights, values."""
    moved = len(executable.instructions)
    for instruction in executable.decoded():
        if instruction.opcode in (Opcode.LOAD, Opcode.STORE):
            words = instruction.words << instruction.wide
            if instruction.opcode == Opcode.LOAD and instruction.packed:
                words = packed_words(words)
            moved += instruction.rows * words * config.tile
    return moved
