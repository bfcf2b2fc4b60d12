"""``bench model``: a whole model on a device, counted, timed and compared with its golden forms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from transept.golden import isa, quantized
from transept.golden.config import Config
from transept.golden.isa import Engine, Filter, Instruction, Opcode
from transept.host.devices.rtl import RtlDevice
from transept.host.launch import Launch
from transept.host.models import TextModel
from transept.host.program import Execution, Program
from transept.host.texts import passages

#: Share of letters in plain text, the rest being spaces and punctuation.
PLAIN = 0.75
CHARACTERS_PER_TOKEN = 7

__all__ = ["array_cycles", "bench_model", "layer_cycles", "layer_macs", "long_texts"]

LONGEST = 1 << 20  # tokens; no text has so many


def long_texts(model: TextModel, tokens: int, batch: int) -> list[str]:
    """``batch`` passages of plain words that fill ``tokens`` tokens, as far as there are such."""
    plain = [text for text in passages() if sum(map(str.isalpha, text)) > PLAIN * len(text)]
    plain.sort(key=lambda text: abs(len(text) - CHARACTERS_PER_TOKEN * tokens))
    full = [text for text in plain if model.longest([text], tokens) == tokens]
    return [*full, *plain][:batch]


def array_cycles(instruction: Instruction, config: Config) -> int:
    """Cycles of the array's work on an instruction of GEMM, if a filter keeps every key."""
    if instruction.opcode == Opcode.MATMUL:
        tiles = instruction.k_tiles * instruction.n_tiles
    else:
        tiles = instruction.d_tiles * (instruction.keys // config.tile + 1)
    return (instruction.rows + 1) * tiles


def layer_cycles(
    labels: Sequence[str],
    instructions: Sequence[Instruction],
    config: Config,
    retired: Sequence[int],
) -> dict[str, int]:
    """Cycles of every layer, from the start of the run to its last product.

    labels: of the instructions; retired: cycle in which each instruction of GEMM retired.

    Layers overlap: while the results of one leave the array, the next one is at work on it. A layer
    ends with its retirement, but so early that the array had the time for all that came later; so
    no layer is counted fewer cycles than its products take.
    """
    filters = {i.filter for i in instructions if i.opcode == Opcode.SCORES}
    known = {Opcode.MATMUL}
    if filters <= {Filter.DENSE}:  # what another filter keeps depends on data
        known |= {Opcode.SCORES, Opcode.CONTEXT}
    work = [
        (label, array_cycles(instruction, config) if instruction.opcode in known else 0)
        for label, instruction in zip(labels, instructions, strict=True)
        if instruction.engine == Engine.GEMM
    ]
    ends = list(retired)
    for index in range(len(ends) - 1, 0, -1):
        ends[index - 1] = min(ends[index - 1], ends[index] - work[index][1])
    totals: dict[str, int] = defaultdict(int)
    for (label, _), start, end in zip(work, [0, *ends], ends, strict=False):
        totals[label] += end - start
    return dict(totals)


def layer_macs(launch: Launch, lengths: Sequence[int]) -> dict[str, int]:
    """Multiply-accumulates of every layer on the tokens of a batch, padding not counted."""
    full = launch.batch * launch.tokens
    attention = {launch.labels[index] for index, _ in launch.sequences}
    return {
        name: macs * sum(n * n for n in lengths) // (full * launch.tokens)
        if name in attention
        else macs * sum(lengths) // full
        for name, macs in launch.macs.items()
    }


def _layers(
    program: Program, lengths: Sequence[int], cycles: dict[str, int], device: str
) -> list[dict]:
    config = program.config
    rows = [
        {
            "name": name,
            "device": device,
            "macs": macs,
            "cycles": cycles.get(name),
            "utilisation": macs / config.macs / cycles[name] if cycles.get(name) else None,
            "reason": "golden model" if device == "cpu" else "part of a post-norm encoder layer",
        }
        for name, macs in layer_macs(program.launch, lengths).items()
    ]
    return rows + [
        {
            "name": name,
            "device": "cpu",
            "macs": None,
            "cycles": None,
            "utilisation": None,
            "reason": reason,
        }
        for name, reason in program.fallback
    ]


def bench_model(
    model: TextModel,
    program: Program,
    *,
    device: str,
    texts: list[str] | None = None,
    **options: Any,
) -> dict:
    """Run a compiled model once; every figure of one report.

    texts: as many as the program's batch; passages that fill its tokens by default.
    """
    tokens, config = program.launch.tokens, program.config
    texts = texts or long_texts(model, tokens, program.launch.batch)
    inputs = model.tokens(texts, tokens)
    if device == "rtl":
        options["timeline"] = True
    with torch.no_grad():
        got = program.run(*inputs, device=device, **options)
        want = model.module(*inputs)
    notes, last = program.notes + _cut_texts(model, texts, tokens), program.last
    assert last is not None
    emulated = program.run_integers(last.values, last.lengths, device="emulator")
    golden = program.golden(last.values, last.lengths)
    cosine = torch.nn.functional.cosine_similarity(got.double(), want.double())
    return _figures(program, config, device, options, last) | {
        "mismatches_vs_emulator": int((last.output != emulated).sum()),
        "mismatches_vs_golden": int((last.output != golden).sum()),
        "cosine_mean": cosine.mean().item(),
        "cosine_min": cosine.min().item(),
        "texts": texts,
        "similarity": (got @ got.T).tolist(),
        "similarity_float32": (want @ want.T).tolist(),
        "cosine": cosine.tolist(),
        "notes": notes,
    }


def _cut_texts(model: TextModel, texts: list[str], tokens: int) -> list[str]:
    """A note for each text that is longer than the program."""
    lengths = [model.longest([text], LONGEST) for text in texts]
    return [
        f"text {index} has {length} tokens, cut to {tokens}"
        for index, length in enumerate(lengths)
        if length > tokens
    ]


def _figures(program: Program, config: Config, device: str, options: dict, last: Execution) -> dict:
    """Counters of the run; None where the device knows no time."""
    report, launch = last.report, program.launch
    assert isinstance(program.model, quantized.Encoder)
    lengths = last.lengths or [launch.tokens] * launch.batch
    macs = program.model.macs(lengths)
    figures: dict[str, Any] = {
        "tokens": launch.tokens,
        "batch": launch.batch,
        "macs": macs,
        "launches": 0 if device == "cpu" else 1,
        "wall_seconds": last.seconds,
        "fallback": [{"operator": name, "reason": reason} for name, reason in program.fallback],
    }
    cycles: dict[str, int] = {}
    if report is not None:
        figures |= {
            "cycles": report.cycles,
            "utilisation": macs / config.macs / report.cycles if report.cycles else None,
            "bytes_read": report.bytes_read,
            "bytes_written": report.bytes_written,
            "array_cycles": report.array_cycles,
            "busy": report.busy,
            "stalls": report.stalls,
        }
    driver = program.session(device, **options)[0] if device == "rtl" else None
    if report is not None and driver is not None and isinstance(driver.device, RtlDevice):
        figures |= _memory_figures(driver.device)
        figures["simulated_khz"] = report.cycles / last.seconds / 1000
        figures["rtl_sha256"] = driver.device.rtl_sha256
        image = launch.with_lengths(lengths)
        retired = driver.device.retirements()[Engine.GEMM]
        cycles = layer_cycles(launch.labels, isa.decode_program(image), config, retired)
    return figures | {"layers": _layers(program, lengths, cycles, device)}


def _memory_figures(device: RtlDevice) -> dict:
    """Bytes as the memory model counted them."""
    counters = device.simulation.counters()
    return {"bytes_read": counters.read_bytes, "bytes_written": counters.write_bytes}
