"""Graphs with states on an accelerator: pages of keys and values, and steps of several sequences.

Keys and values lie in pages of a few rows that sequences take as they grow (vLLM's paged attention,
Kwon et al. 2023). Sequences that begin alike share pages, until one of them writes to one: it gets
a copy. Which pages a sequence has changes no bit of what is computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from transept.golden.config import Config
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

__all__ = ["PagedRegion", "PagedSequence", "page_bytes", "pages_of"]

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
        self._limit = next(d.limit for d in region.graph.dims if d.name == self._context)
        self._loaded = driver.load(region)
        self._free = list(range(pages))[::-1]
        self._users = [0] * pages  # sequences that have each page
        self._reserve = RESERVE
        self._verified: set[Executable] = set()
        self._pool_bytes = pages * self._layout.nbytes
        self._loaded.windows[Window.SCRATCH] = driver.device.allocate(RESERVE + self._pool_bytes)

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has."""
        return len(self._free)

    def release(self, sequence: PagedSequence) -> None:
        """The sequence has ended; pages that no other one has are free."""
        self.truncate(sequence, 0)

    def truncate(self, sequence: PagedSequence, length: int) -> None:
        """Forget the rows of a sequence behind the first ``length``.

        Raises
        ------
        ProgramError
            If it has fewer.
        """
        self._check_length(sequence, length)
        kept = pages_of(length)
        self._give_back(sequence.pages[kept:])
        del sequence.pages[kept:]
        sequence.length = length

    def fork(self, sequence: PagedSequence, length: int) -> PagedSequence:
        """Another sequence with the same first ``length`` rows, in the same pages.

        Raises
        ------
        ProgramError
            If the sequence has fewer.
        """
        self._check_length(sequence, length)
        pages = sequence.pages[: pages_of(length)]
        for page in pages:
            self._users[page] += 1
        return PagedSequence(length, list(pages))

    def _check_length(self, sequence: PagedSequence, length: int) -> None:
        if not 0 <= length <= sequence.length:
            raise ProgramError(
                f"{self.region.name}: {length} rows of a sequence are outside 0 to "
                f"{sequence.length}"
            )

    def _give_back(self, pages: Sequence[int]) -> None:
        for page in reversed(pages):
            self._users[page] -= 1
            if not self._users[page]:
                self._free.append(page)

    def reserve(self, sequence: PagedSequence, rows: int) -> None:
        """Give a sequence pages for so many rows before it has them.

        Raises
        ------
        OutOfMemoryError
            If there are not enough free pages.
        """
        sequence.pages += self._take(max(0, pages_of(rows) - len(sequence.pages)))

    def restore(self, sequence: PagedSequence, states: Mapping[str, np.ndarray]) -> None:
        """Give a sequence without rows those that another device computed.

        states: int8[rows, width] of every state, by the name of its output.

        Raises
        ------
        ProgramError
            If the sequence has rows, or a state is missing or of another size.
        OutOfMemoryError
            If there are not enough free pages.
        """
        length = self._check_states(sequence, states)
        self.reserve(sequence, length)
        sequence.length = length
        scratch = self._loaded.windows[Window.SCRATCH]
        self._driver.device.invalidate(scratch)
        for name, kept in self._layout.states.items():
            heads = states[name].reshape(length, kept.heads, -1)
            for number, page in enumerate(sequence.pages):
                rows = heads[number * PAGE_ROWS :][:PAGE_ROWS].view(np.uint8)
                for head in range(kept.heads):
                    start = self._place(page) + kept.head(head)
                    size = len(rows) * kept.row_bytes
                    into = scratch.array[start : start + size].reshape(-1, kept.row_bytes)
                    into[:, : rows.shape[2]] = rows[:, head]
        self._driver.device.flush(scratch)

    def _check_states(self, sequence: PagedSequence, states: Mapping[str, np.ndarray]) -> int:
        """Rows of the states."""
        name, values = self.region.name, self.region.graph.values
        if sequence.length:
            raise ProgramError(f"{name}: the sequence has {sequence.length} rows already")
        if states.keys() != self._layout.states.keys():
            raise ProgramError(f"{name}: states must be {', '.join(self._layout.states)}")
        length = len(next(iter(states.values())))
        for state, rows in states.items():
            wanted = (length, values[state].width)
            if rows.dtype != np.int8 or rows.shape != wanted or not length:
                raise ProgramError(
                    f"{name}: state {state} is {rows.dtype}{list(rows.shape)}, "
                    f"must be int8{list(wanted)}"
                )
        return length

    def _place(self, page: int) -> int:
        """Where a page begins in window SCRATCH."""
        return self._reserve + page * self._layout.nbytes

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
        room = context or min(pages_of(max(wholes)) * PAGE_ROWS, self._limit)
        shape = self.region.shape(len(sequences), {self._rows: most, self._context: room})
        self._check(shape, inputs, wholes)
        executable = self.region.executable(shape)
        chunk, room = executable.cut.chunk, shape.lengths[self._context]
        if len(sequences) == 1 and wholes[0] <= (room - 1) // chunk * chunk:
            raise ProgramError(
                f"{self.region.name}: {wholes[0]} rows leave a chunk of {chunk} in a context of "
                f"{room} empty"
            )
        left = [sequence.pages[self._own(sequence) :][:1] for sequence in sequences]
        pages, taken = self._writable(sequences, wholes)
        try:
            self._fit(executable)
            self._copy(sequences, pages)
            outputs, report = self._run(executable, sequences, inputs, counts, pages)
        except BaseException:
            self._give_back(taken)
            raise
        for sequence, whole, own, old in zip(sequences, wholes, pages, left, strict=True):
            sequence.length, sequence.pages = whole, own
            self._give_back(old)
        return outputs, report

    def room(self, batch: int, rows: int, whole: int, step: int) -> int:
        """The rows that a program has room for, for sequences of up to ``whole``: a multiple of
        ``step`` pages, or the most before a chunk of keys would be empty.

        Raises
        ------
        CompileError
            If no cut of the shape fits the accelerator.
        """
        room = min(-(-whole // (step * PAGE_ROWS)) * step * PAGE_ROWS, self._limit)
        while batch == 1:
            shape = self.region.shape(batch, {self._rows: rows, self._context: room})
            chunk = self.region.executable(shape).cut.chunk
            last = (room - 1) // chunk * chunk
            if whole > last:
                break
            room = last
        return room

    def predicted_cycles(self, batch: int, rows: int, room: int) -> int:
        """Cycles that the compiler expects of a step."""
        shape = self.region.shape(batch, {self._rows: rows, self._context: room})
        return self.region.executable(shape).predicted_cycles

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

    def _own(self, sequence: PagedSequence) -> int:
        """Which of its pages a sequence does not keep when it grows, as others have it, too, and it
        would write to it; none: how many it has."""
        at = sequence.length // PAGE_ROWS
        shared = sequence.length % PAGE_ROWS and self._users[sequence.pages[at]] > 1
        return at if shared else len(sequence.pages)

    def _writable(
        self, sequences: Sequence[PagedSequence], wholes: Sequence[int]
    ) -> tuple[list[list[int]], list[int]]:
        """Pages of every sequence for all of its rows, and those of them that were free."""
        own = [self._own(sequence) for sequence in sequences]
        old = [sequence.pages for sequence in sequences]
        copies = [at < len(pages) for at, pages in zip(own, old, strict=True)]
        more = [max(0, pages_of(n) - len(pages)) for n, pages in zip(wholes, old, strict=True)]
        taken = self._take(sum(copies) + sum(more))
        new = iter(taken)
        return [
            [
                *pages[:at],
                *itertools.islice(new, copy),
                *pages[at + 1 :],
                *itertools.islice(new, count),
            ]
            for pages, at, copy, count in zip(old, own, copies, more, strict=True)
        ], taken

    def _take(self, count: int) -> list[int]:
        """Pages that were free."""
        if count > len(self._free):
            raise OutOfMemoryError(
                f"{count} pages of {PAGE_ROWS} rows are needed, {len(self._free)} are free"
            )
        taken = [self._free.pop() for _ in range(count)]
        for page in taken:
            self._users[page] = 1
        return taken

    def _copy(self, sequences: Sequence[PagedSequence], pages: Sequence[Sequence[int]]) -> None:
        """Fill pages that take the place of shared ones."""
        device, scratch = self._driver.device, self._loaded.windows[Window.SCRATCH]
        pairs = [
            (sequence.pages[own], after[own])
            for sequence, after in zip(sequences, pages, strict=True)
            if (own := self._own(sequence)) < len(sequence.pages)
        ]
        if not pairs:
            return
        device.invalidate(scratch)
        size = self._layout.nbytes
        for old, new in pairs:
            source, target = self._place(old), self._place(new)
            scratch.array[target : target + size] = scratch.array[source : source + size]
        device.flush(scratch)

    def _run(
        self,
        executable: Executable,
        sequences: Sequence[PagedSequence],
        inputs: Mapping[str, np.ndarray],
        counts: Sequence[int],
        pages: Sequence[Sequence[int]],
    ) -> tuple[dict[str, np.ndarray], RunReport]:
        symbols = self._symbols(executable, sequences, counts, pages)
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
        pages: Sequence[Sequence[int]],
    ) -> dict[str, list[int]]:
        """What is patched into the program."""
        lengths, symbols = executable.shape.lengths, dict[str, list[int]]()
        for sequence, count, own in zip(sequences, counts, pages, strict=True):
            found = kept_symbols(
                sequence.length,
                count,
                [self._place(page) for page in own],
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


def page_bytes(graph: Graph, config: Config) -> int:
    """Bytes of a page of every state of a graph."""
    return page_layout(graph, Layouts(graph, config)).nbytes


def pages_of(rows: int) -> int:
    """Pages that so many rows fill."""
    return -(-rows // PAGE_ROWS)


def _dimensions(graph: Graph) -> tuple[str, str]:
    """Of new rows, and of all rows of a sequence."""
    append = next((op for op in graph.ops if isinstance(op, Append)), None)
    if append is None:
        raise ProgramError("the graph has no states: nothing is kept from step to step")
    return graph.values[append.rows].dim, graph.values[append.cache].dim
