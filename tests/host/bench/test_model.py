"""Every figure of ``bench model``, worked out from what ran."""

import hashlib
from types import SimpleNamespace

import pytest
import torch
from small_models import TwoRegions, Words
from torch import nn

import transept
from transept.golden.config import TINY
from transept.golden.isa import Engine, Instruction, Opcode
from transept.host.bench import model as module
from transept.host.bench.model import array_cycles, bench_model, layer_cycles, long_texts
from transept.host.devices.rtl import RtlDevice
from transept.host.models import Prepared, TextModel
from transept.sim.build import accelerator_verilog


def test_texts_are_those_that_fill_the_tokens_best(monkeypatch):
    """Plain ones, the nearest to seven letters a token first, before them all that are long
    enough."""
    words = {n: " ".join(["letters"] * n) for n in (1, 2, 3, 4, 9)}
    three_quarters = "abcdefghi..." * 3
    texts = [words[9], "1 2 3 4 5 6", words[1], words[4], words[2], three_quarters, words[3]]
    monkeypatch.setattr(module, "passages", lambda: texts)
    assert module.CHARACTERS_PER_TOKEN == 7
    model = TextModel("words", None, Words())
    full = [words[4], words[3], words[9]]
    assert long_texts(model, 5, 2) == full[:1] + full[1:2]
    assert long_texts(model, 5, 5) == [*full, words[4], words[3]]
    assert long_texts(model, 5, 99) == [*full, *(words[n] for n in (4, 3, 2, 1, 9))]


def test_cycles_of_the_array_are_rows_times_tiles():
    for halves in (0, 1):
        facts = {"rows": 6, "k_tiles": 2, "n_tiles": 5, "halves": halves}
        product = Instruction(Opcode.MATMUL, facts)
        assert array_cycles(product, TINY) == (1 + halves) * 7 * 2 * 5
    for opcode in (Opcode.SCORES, Opcode.CONTEXT):
        scores = Instruction(opcode, {"rows": 6, "keys": 8, "d_tiles": 5})
        assert array_cycles(scores, TINY) == 7 * 5 * 3


def test_the_first_layer_begins_with_the_run():
    plain = {"rows": 0, "k_tiles": 1, "halves": 0}
    work = [Instruction(Opcode.MATMUL, plain | {"n_tiles": n}) for n in (1, 4, 2)]
    assert layer_cycles("abc", work, TINY, [10, 11, 12]) == {"a": 6, "b": 4, "c": 2}


def test_shares_are_of_slices_in_which_an_engine_is_busy(monkeypatch):
    def pieces(changes, cycles):
        assert (changes, cycles) == ("changes", 8)
        tracks = [("GEMM", 0, 2, "busy"), ("GEMM", 2, 3, "token"), ("LOAD", 7, 8, "busy")]
        tracks += [("GEMM", 3, 7, "busy"), ("STORE", 0, 8, "token")]
        names = ("track", "start", "stop", "state")
        return [SimpleNamespace(**dict(zip(names, piece, strict=True))) for piece in tracks]

    assert module.SLICES == 120
    monkeypatch.setattr(module, "SLICES", 4)
    monkeypatch.setattr(module, "slices", pieces)
    assert module._shares("changes", 8) == {
        "GEMM": [1.0, 0.5, 1.0, 0.5],
        "LOAD": [0.0, 0.0, 0.0, 0.5],
        "STORE": [0.0] * 4,
    }


def test_real_tensors_are_found_wherever_they_are():
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    value = {"a": one, "b": [two, torch.ones(1).long(), (three, 4, None)]}
    assert list(module._tensors(value)) == [one, two, three]


def test_cosines_are_of_rows():
    got = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 1.0]]])
    want = torch.tensor([[[4.0, 3.0], [2.0, 0.0]], [[5.0, 0.0], [-1.0, -1.0]]])
    assert module._cosines(got, want).tolist() == pytest.approx([0.96, 1, 0, -1])
    assert module._cosines(torch.tensor(2.0), torch.tensor(-3.0)).tolist() == [-1]


@pytest.mark.parametrize(
    ("device", "executable", "report", "timeline"),
    [
        ("rtl", None, 1, True),
        ("rtl", 1, None, True),
        ("emulator", 1, 1, True),
        ("rtl", 1, 1, False),
    ],
)
def test_what_has_no_timeline_is_not_measured(device, executable, report, timeline):
    opened = RtlDevice.__new__(RtlDevice) if device == "rtl" else SimpleNamespace()
    opened.simulation = SimpleNamespace(keeps_timeline=timeline)
    measured = module._Measured()
    result = SimpleNamespace(executable=executable, report=report)
    measured(SimpleNamespace(result=result), SimpleNamespace(opened=opened))
    assert measured == module._Measured({}, None, [])


# --- reports
@pytest.fixture(scope="module")
def prepared():
    x = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(1))
    return Prepared("two", transept.compile(TwoRegions(), (x,), config=TINY), (x,), (), ("cut",))


MACS = 16 * 8 * 24


@pytest.fixture
def compared(prepared, monkeypatch):
    """Other devices find other elements: of each region one in the emulator, three in the golden
    model."""
    program, calls = prepared.program, []
    run = program.run_region

    def run_region(region, inputs, lengths, device, **options):
        found = run(region, inputs, lengths, device, **options)
        calls.append(device)
        if len(calls) > 2:
            for y in found.result.outputs.values():
                y[0, 0, : {"emulator": 1, "golden": 3}[device]] += 1
        return found

    def run_whole(*inputs, **options):
        program.result = whole(*inputs, **options)
        return program.result

    whole = program.run
    monkeypatch.setattr(program, "run", run_whole)
    monkeypatch.setattr(program, "run_region", run_region)
    return prepared


def wanted(prepared, cycles, regions):
    """What is reported of any device; cycles, regions: of each layer, and what it ran on."""
    program = prepared.program
    explained, want = program.explain(), TwoRegions()(*prepared.inputs).detach()
    torch_only = {"device": "torch", "macs": None, "cycles": None, "utilisation": None}
    cosine = nn.functional.cosine_similarity(program.result.double(), want.double(), dim=-1)
    return {
        **{"shapes": [[1, 16, 8]], "regions": 2, "macs": 2 * MACS},
        **{name: explained[name] for name in ("macs_share", "predicted_cycles", "fallback")},
        **{"mismatches_vs_emulator": 2, "mismatches_vs_golden": 6, "texts": []},
        **{"notes": ["cut"], "clipped": program.last.clipped},
        "cosine": pytest.approx(cosine[0].tolist()),
        "cosine_mean": pytest.approx(cosine.mean().item()),
        "cosine_min": pytest.approx(cosine.min().item()),
        "layers": [
            {
                **{"name": name, "device": regions[0], "macs": MACS, "cycles": count},
                "utilisation": count and MACS / 16 / count,
                "reason": regions[1],
            }
            for name, count in zip("ab", cycles, strict=True)
        ]
        + [
            torch_only
            | {"name": entry["name"], "reason": f"{entry['operator']}: {entry['reason']}"}
            for entry in explained["fallback"]
        ],
    }


def test_figures_of_the_rtl(compared, monkeypatch):
    ends = iter([100, 128])
    monkeypatch.setattr(module, "retirements", lambda changes: {Engine.GEMM: len(changes) > 9})
    monkeypatch.setattr(module, "_shares", lambda changes, cycles: (len(changes) > 9, cycles))
    monkeypatch.setattr(
        module, "layer_cycles", lambda labels, *rest: {labels[4]: next(ends)} if rest[2] else {}
    )
    found = bench_model(compared, device="rtl", seed=1)
    parts = compared.program.last.parts
    reports, seconds = zip(*((p.result.report, p.result.seconds) for p in parts), strict=True)
    first, second = reports
    cycles = first.cycles + second.cycles
    assert len({part.region.name for part in parts}) == 2
    assert found == wanted(compared, (100, 128), ("rtl", "on the accelerator")) | {
        **{"devices": ["rtl"], "launches": 2, "cycles": cycles},
        "utilisation": 2 * MACS / 16 / cycles,
        "bytes_read": first.bytes_read + second.bytes_read,
        "bytes_written": first.bytes_written + second.bytes_written,
        "array_cycles": first.array_cycles + second.array_cycles,
        "busy": {name: first.busy[name] + second.busy[name] for name in first.busy},
        "stalls": {
            engine: {name: count + second.stalls[engine][name] for name, count in stalls.items()}
            for engine, stalls in first.stalls.items()
        },
        "wall_seconds": sum(seconds),
        "simulated_khz": pytest.approx(cycles / sum(seconds) / 1000),
        "rtl_sha256": hashlib.sha256(accelerator_verilog(TINY).encode()).hexdigest(),
        "timeline": [
            {"region": part.region.name, "cycles": report.cycles, "engines": (True, report.cycles)}
            for part, report in zip(parts, reports, strict=True)
        ],
    }


def test_the_emulator_counts_but_knows_no_cycles(compared):
    found = bench_model(compared, device="emulator")
    parts = compared.program.last.parts
    first, second = (part.result.report for part in parts)
    assert found == wanted(compared, (None, None), ("emulator", "on the accelerator")) | {
        **{"devices": ["emulator"], "launches": 2, "cycles": 0, "utilisation": None},
        "bytes_read": first.bytes_read + second.bytes_read,
        "bytes_written": first.bytes_written + second.bytes_written,
        **{name: found[name] for name in ("array_cycles", "busy", "stalls")},
        "wall_seconds": sum(part.result.seconds for part in parts),
    }


def test_where_nothing_counts_there_are_fewer_figures(compared):
    found = bench_model(compared, device="cpu")
    assert found == wanted(compared, (None, None), ("cpu", "")) | {
        **{"devices": ["cpu"], "launches": 0},
        "wall_seconds": sum(part.result.seconds for part in compared.program.last.parts),
    }


def told(got, want):
    """A program that has no regions and returns this."""
    explained = {"macs_share": 0.0, "predicted_cycles": 0, "fallback": []}
    return SimpleNamespace(
        run=lambda *inputs, device, watch: got,
        reference=lambda *inputs: want,
        explain=lambda: explained,
        last=SimpleNamespace(parts=[], clipped=3),
        notes=("no regions",),
        config=TINY,
    )


def test_texts_are_compared_with_each_other():
    got, want = torch.tensor([[3.0, 4.0], [1.0, 2.0]]), torch.tensor([[4.0, 3.0], [1.0, 2.0]])
    ids = torch.zeros(2, 5).long()
    model = Prepared("words", told((got,), (want,)), (ids, ids), ("one", "two"))
    assert bench_model(model, device="cpu") == {
        **{"shapes": [[2, 5], [2, 5]], "regions": 0, "devices": [], "launches": 0, "macs": 0},
        **{"macs_share": 0.0, "predicted_cycles": 0, "wall_seconds": 0, "fallback": []},
        **{"layers": [], "mismatches_vs_emulator": 0, "mismatches_vs_golden": 0, "clipped": 3},
        **{"cosine": pytest.approx([0.96, 1.0]), "cosine_mean": pytest.approx(0.98)},
        **{"cosine_min": pytest.approx(0.96), "texts": ["one", "two"], "notes": ["no regions"]},
        **{"tokens": 5, "batch": 2, "similarity": [[25.0, 11.0], [11.0, 5.0]]},
        "similarity_float32": [[25.0, 10.0], [10.0, 5.0]],
    }


def test_a_model_that_returns_nothing_real_is_refused():
    model = Prepared("counts", told(torch.ones(2).long(), None), ())
    with pytest.raises(ValueError, match="counts returns no tensor of real numbers"):
        bench_model(model, device="cpu")
