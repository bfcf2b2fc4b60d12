"""Graphs with states on an accelerator: pages of keys and values, and steps of several sequences.

Keys and values lie in pages of a few rows that sequences take as they grow (vLLM's paged attention,
Kwon et al. 2023). Which pages a sequence has changes no bit of what is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from transept.golden.graph import Graph
from transept.golden.isa import Window
from transept.golden.ops import Append
from transept.golden.verify import verify
from transept.host.compiler.cut import Shape
from transept.host.compiler.executable import Executable
from transept.host.compiler.layout import Layouts
from transept.host.compiler.pages import PAGE_ROWS, kept_symbols, page_layout
from transept.host.devices.base import OutOfMemoryError
from transept.host.runtime.driver import Driver, RunReport, read_rows, write_rows
from transept.host.runtime.errors import ProgramError
from transept.host.runtime.region import Region

__all__ = ["PagedRegion", "PagedSequence"]

#: What an executable leaves in window SCRATCH before the pages grows in such steps.
RESERVE = 1 << 16


@dataclass(eq=False)
class PagedSequence:
    """Rows of one sequence so far, and the numbers of their pages."""

    length: int = 0
    pages: list[int] = field(default_factory=list)


class PagedRegion:
    """One region whose graph has states, in the memory of a device.

    pages: how many there are for all sequences, of ``PAGE_ROWS`` rows each.

    Raises
    ------
    OutOfMemoryError
        If device memory is too small for the weights and the pages.
    """

    def __init__(self, region: Region, driver: Driver, pages: int) -> None:
        self.region, self._driver = region, driver
        self._layout = page_layout(region.graph, Layouts(region.graph, region.config))
        self._row_bytes = sorted({kept.row_bytes for kept in self._layout.states.values()})
        self._rows, self._context = _dimensions(region.graph)
        self._loaded = driver.load(region)
        self._free = list(range(pages))[::-1]
        self._reserve = RESERVE
        self._verified: set[Executable] = set()
        self._pool_bytes = pages * self._layout.nbytes
        self._loaded.windows[Window.SCRATCH] = driver.device.allocate(RESERVE + self._pool_bytes)

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has."""
        return len(self._free)

    def release(self, sequence: PagedSequence) -> None:
        """The sequence has ended; its pages are free for others."""
        self._free += sequence.pages[::-1]
        sequence.pages.clear()
        sequence.length = 0

    def step(
        self,
        sequences: Sequence[PagedSequence],
        inputs: Mapping[str, np.ndarray],
        counts: Sequence[int],
        *,
        context: int | None = None,
    ) -> tuple[dict[str, np.ndarray], RunReport]:
        """Add rows to every sequence: outputs [sequences, rows, width] of those.

        inputs: int16 or int8 [sequences, rows, width]; counts: real rows of each sequence; context:
        rows that the program has room for, whole pages for all of them by default.

        Raises
        ------
        ProgramError
            If inputs do not fit the graph or each other, a sequence is there twice or would be too
            long, or a program is not legal.
        OutOfMemoryError
            If there are not enough free pages; no sequence has changed.
        DeviceError
            If the run fails; no sequence has changed.
        """
        self._check_sequences(sequences, counts)
        most = max((given.shape[1] for given in inputs.values() if given.ndim == 3), default=0)
        for count in counts:
            if not 1 <= count <= most:
                raise ProgramError(f"{self.region.name}: {count} new rows are outside 1 to {most}")
        wholes = [s.length + count for s, count in zip(sequences, counts, strict=True)]
        pages_each = -(-max(wholes) // PAGE_ROWS)
        shape = self.region.shape(
            len(sequences),
            {self._rows: most, self._context: context or pages_each * PAGE_ROWS},
        )
        self._check(shape, inputs, wholes)
        executable = self.region.executable(shape)
        chunk, room = executable.cut.chunk, shape.lengths[self._context]
        if len(sequences) == 1 and wholes[0] <= (room - 1) // chunk * chunk:
            raise ProgramError(
                f"{self.region.name}: {wholes[0]} rows leave a chunk of {chunk} in a context of "
                f"{room} empty"
            )
        taken = self._take(sequences, wholes)
        try:
            outputs, report = self._run(executable, sequences, inputs, counts, taken)
        except BaseException:
            self._free += [page for pages in taken for page in pages]
            raise
        for sequence, whole, pages in zip(sequences, wholes, taken, strict=True):
            sequence.length = whole
            sequence.pages += pages
        return outputs, report

    def _check_sequences(self, sequences: Sequence[PagedSequence], counts: Sequence[int]) -> None:
        name, many = self.region.name, len(sequences)
        if not many or len(counts) != many:
            raise ProgramError(f"{name}: {len(counts)} numbers of rows for {many} sequences")
        if len({id(sequence) for sequence in sequences}) < many:
            raise ProgramError(f"{name}: a sequence is there twice")

    def _check(
        self,
        shape: Shape,
        inputs: Mapping[str, np.ndarray],
        wholes: Sequence[int],
    ) -> None:
        states = {state.input for state in self.region.graph.states}
        wanted = [name for name in self.region.graph.inputs if name not in states]
        self.region.check_rows(shape, {name: inputs[name] for name in wanted if name in inputs})
        if missing := [name for name in wanted if name not in inputs]:
            raise ProgramError(f"{self.region.name}: input {missing[0]} is missing")
        context = shape.lengths[self._context]
        if max(wholes) > context:
            raise ProgramError(
                f"{self.region.name}: {max(wholes)} rows exceed a context of {context}"
            )

    def _take(self, sequences: Sequence[PagedSequence], wholes: Sequence[int]) -> list[list[int]]:
        """New pages for every sequence."""
        needed = [
            max(0, -(-whole // PAGE_ROWS) - len(sequence.pages))
            for sequence, whole in zip(sequences, wholes, strict=True)
        ]
        if sum(needed) > len(self._free):
            raise OutOfMemoryError(
                f"{sum(needed)} pages of {PAGE_ROWS} rows are needed, {len(self._free)} are free"
            )
        return [[self._free.pop() for _ in range(count)] for count in needed]

    def _run(
        self,
        executable: Executable,
        sequences: Sequence[PagedSequence],
        inputs: Mapping[str, np.ndarray],
        counts: Sequence[int],
        taken: Sequence[Sequence[int]],
    ) -> tuple[dict[str, np.ndarray], RunReport]:
        self._fit(executable)
        symbols = self._symbols(executable, sequences, counts, taken)
        image, windows = executable.linked(symbols), self._loaded.windows
        self._verify(executable, image)
        program, io = windows[Window.PROGRAM], windows[Window.IO]
        program.array[: len(image)] = np.frombuffer(image, np.uint8)
        for name, tensor in executable.tensors.items():
            if name in inputs:
                write_rows(io.array, tensor, executable.shape.batch, inputs[name])
        for buffer in (program, io):
            self._driver.device.flush(buffer)
        report = self._driver.execute(windows, executable.tallies)
        self._driver.device.invalidate(io)
        batch, tensors = executable.shape.batch, executable.tensors
        names = [name for name in self.region.graph.outputs if name in tensors]
        return {name: read_rows(io.array, tensors[name], batch) for name in names}, report

    def _verify(self, executable: Executable, image: bytes) -> None:
        """ProgramError if a program is not legal, before it starts for the first time."""
        if executable in self._verified:
            return
        windows = {window: buffer.nbytes for window, buffer in self._loaded.windows.items()}
        for finding in verify(image, self.region.config, windows):
            raise ProgramError(f"{self.region.name} of {executable.shape} rows: {finding}")
        self._verified.add(executable)

    def _symbols(
        self,
        executable: Executable,
        sequences: Sequence[PagedSequence],
        counts: Sequence[int],
        taken: Sequence[Sequence[int]],
    ) -> dict[str, list[int]]:
        """What is patched into the program."""
        lengths, symbols = executable.shape.lengths, dict[str, list[int]]()
        for sequence, count, pages in zip(sequences, counts, taken, strict=True):
            places = [
                self._reserve + page * self._layout.nbytes for page in [*sequence.pages, *pages]
            ]
            found = kept_symbols(
                sequence.length,
                count,
                places,
                batch=executable.shape.batch,
                most_rows=lengths[self._rows],
                context=lengths[self._context],
                chunk=executable.cut.chunk,
                row_bytes=self._row_bytes,
            )
            found |= {self._rows: [count], self._context: [sequence.length + count]}
            for name, values in found.items():
                symbols.setdefault(name, []).extend(values)
        return symbols

    def _fit(self, executable: Executable) -> None:
        """Let the windows grow to what an executable needs; the pages keep what is in them."""
        device, windows = self._driver.device, self._loaded.windows
        if executable.scratch_bytes > self._reserve:
            reserve = -(-executable.scratch_bytes // RESERVE) * RESERVE
            larger = device.allocate(reserve + self._pool_bytes)
            before = windows[Window.SCRATCH]
            device.invalidate(before)
            larger.array[reserve:] = before.array[self._reserve :][: self._pool_bytes]
            device.flush(larger)
            device.release(before)
            windows[Window.SCRATCH], self._reserve = larger, reserve
        self._driver.fit(self._loaded, executable)


def _dimensions(graph: Graph) -> tuple[str, str]:
    """Of new rows, and of all rows of a sequence."""
    append = next((op for op in graph.ops if isinstance(op, Append)), None)
    if append is None:
        raise ProgramError("the graph has no states: nothing is kept from step to step")
    return graph.values[append.rows].dim, graph.values[append.cache].dim
