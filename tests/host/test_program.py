"""Programs as users see them: run, save, load, and what is wrong with an input or a file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from small_models import Stack

import transept
from transept.golden.config import PYNQ_Z2, TINY
from transept.host import driver as driver_module
from transept.host.compile import CompileError
from transept.host.devices.base import DeviceError
from transept.host.devices.emulator import EmulatorDevice
from transept.host.driver import Driver
from transept.host.launch import Launch, ProgramError
from transept.host.program import measure_ranges, open_device

TOKENS = 5


def inputs(*lengths, seed=0):
    torch.manual_seed(seed)
    mask = (torch.arange(TOKENS)[None] < torch.tensor(lengths)[:, None]).long()
    return torch.randn(len(lengths), TOKENS, 8), mask


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    return transept.compile(Stack(attention="sdpa"), inputs(5, 5), config="tiny")


@pytest.fixture(scope="module")
def saved(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "encoder.tsp"
    program.save(path)
    return path


# --- running
@pytest.mark.parametrize("lengths", [(5, 5), (1, 4)])
def test_devices_agree(program, lengths):
    x, mask = inputs(*lengths, seed=1)
    first = program.run(x, mask, device="emulator")
    assert program.last.report.instructions == len(program.launch.labels)
    assert program.last.lengths == list(lengths)
    second = program.run(x, mask, device="cpu")
    assert program.last.report is None
    assert (first == second).all()


def test_programs_of_different_shapes_share_ranges():
    """One calibration: a sequence gives the same bits alone and in a batch, short and long."""
    torch.manual_seed(0)
    module = Stack()
    ranges = measure_ranges(module, [inputs(5, 5)])
    two = transept.compile(module, inputs(5, 5), config="tiny", calibration=ranges)
    one = transept.compile(module, inputs(5), config=TINY, calibration=ranges)
    x, mask = inputs(5, 3, seed=3)
    assert (two.run(x, mask)[:1] == one.run(x[:1], mask[:1])).all()


def test_a_configuration_of_ones_own(tmp_path):
    config = TINY.replace(name="mine", max_rows=32)
    program = transept.compile(torch.nn.Linear(8, 4), (torch.randn(3, 8),), config=config)
    program.save(tmp_path / "mine")
    assert transept.load(tmp_path / "mine").config == config
    program.run(torch.randn(3, 8))
    assert program.notes == []


def test_values_beyond_calibration_saturate(program):
    x, mask = inputs(5, 5)
    got = program.run(x * 1e6, mask)
    assert torch.isfinite(got).all()
    assert program.notes == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_inputs_must_be_finite(bad):
    program = transept.compile(torch.nn.Linear(8, 4), (torch.randn(3, 8),), config="tiny")
    x = torch.zeros(3, 8)
    x[1, 6] = bad
    with pytest.raises(ProgramError, match=f"input holds {bad} in row 1, element 6"):
        program.run(x)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]], "sequence 1 is 10110; masks must be ones, then zer"),
        ([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], "sequence 0 is 00000; .* at least one 1"),
        ([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], "sequence 0 is 01111"),
    ],
)
def test_masks_are_prefixes(program, mask, message):
    with pytest.raises(ProgramError, match=message):
        program.run(inputs(5, 5)[0], torch.tensor(mask))


def test_inputs_have_the_examples_shape_and_type(program):
    x, mask = inputs(5, 5)
    with pytest.raises(ProgramError, match="the model takes 2 inputs, got 1"):
        program.run(x)
    message = r"input x is torch.float32\[2, 4, 8\], the program takes torch.float32\[2, 5, 8\]"
    with pytest.raises(ProgramError, match=message):
        program.run(x[:, :4], mask)
    with pytest.raises(ProgramError, match=r"input x is torch.float32\[1, 5, 8\]"):
        program.run(x[:1], mask)
    with pytest.raises(ProgramError, match=r"input x is torch.float64\[2, 5, 8\]"):
        program.run(x.double(), mask)


def test_an_empty_batch_is_nothing_to_do():
    with pytest.raises(CompileError, match=r"has shape \(0, 8\), there is nothing to do"):
        transept.compile(torch.nn.Linear(8, 4), (torch.randn(0, 8),), config="tiny")


def test_sequences_longer_than_the_hardware():
    with pytest.raises(CompileError, match="sequence length 65 exceeds 64 of tiny"):
        transept.compile(Stack(), (torch.randn(1, 65, 8),), config="tiny")


def test_weights_must_be_finite():
    module = Stack()
    module.layers[0].up.weight.data[3, 2] = float("nan")
    with pytest.raises(ValueError, match=r"weights of layers.0.up hold nan"):
        transept.compile(module, inputs(5, 5), config="tiny")


def test_unknown_names(program):
    with pytest.raises(ValueError, match="unknown configuration 'huge', the presets are tiny"):
        transept.compile(Stack(), inputs(5), config="huge")
    with pytest.raises(ValueError, match="no accelerator 'gpu', there is rtl and emulator"):
        program.run(*inputs(5, 5), device="gpu")
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        transept.train  # noqa: B018


# --- devices that fail
def test_a_failing_device_falls_back_to_the_golden_model(program, monkeypatch):
    x, mask = inputs(5, 2)
    want = program.run(x, mask)

    def fail(*args, **options):
        raise DeviceError("emulator: no interrupt within 7 cycles")

    with monkeypatch.context() as patch:
        patch.setattr(Driver, "run", fail)
        got = program.run(x, mask)
        assert program.notes == ["fell back to cpu: emulator: no interrupt within 7 cycles"]
        assert program.last.report is None
        assert (got == want).all()
    assert (program.run(x, mask) == want).all()
    assert program.notes == []


def test_a_device_without_room_falls_back(program, monkeypatch):
    small = EmulatorDevice(TINY, dram_bytes=4096)
    monkeypatch.setattr("transept.host.program.open_device", lambda *args, **options: small)
    x, mask = inputs(5, 2)
    got = program.run(x, mask, seed=99)
    assert program.notes[0].startswith("fell back to cpu: buffer of ")
    assert (got == program.run(x, mask, device="cpu")).all()


def test_a_loaded_program_cannot_fall_back(saved, monkeypatch):
    program = transept.load(saved)

    def fail(*args, **options):
        raise DeviceError("bus")

    monkeypatch.setattr(driver_module.Driver, "run", fail)
    with pytest.raises(DeviceError, match="bus"):
        program.run(torch.zeros(10, 8))
    with pytest.raises(ProgramError, match="has no golden model"):
        program.run(torch.zeros(10, 8), device="cpu")


# --- files
def test_a_loaded_program_gives_the_same_bits(program, saved):
    x, mask = inputs(5, 3, seed=2)
    want = program.run(x, mask)
    entered = torch.tensor(program.last.values * np.array(program.launch.inputs[0].scale))
    loaded = transept.load(saved)
    got = loaded.run(entered.view(2, 5, 8), mask)
    assert (got.float() == want).all()
    assert loaded.notes == []
    assert loaded.launch.labels == program.launch.labels
    with pytest.raises(ProgramError, match="takes values and a mask, got 0"):
        loaded.run()


def test_a_board_needs_no_torch(program, saved):
    values = np.random.default_rng(0).integers(-9000, 9000, (10, 8)).astype(np.int16)
    code = (
        "import sys, numpy; sys.modules.update(torch=None, transformers=None, amaranth=None)\n"
        "import transept\n"
        f"program = transept.load({str(saved)!r})\n"
        f"values = numpy.array({values.tolist()}, numpy.int16)\n"
        "print(program.run_integers(values, [5, 3]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == program.run_integers(values, [5, 3]).tolist()


def test_a_loaded_program_checks_its_input(saved):
    with pytest.raises(ProgramError, match=r"shape \(9, 8\), the program takes \(10, 8\)"):
        transept.load(saved).run(torch.zeros(9, 8))


def test_saving_leaves_one_file_or_none(program, tmp_path, monkeypatch):
    program.save(tmp_path / "good")
    assert [path.name for path in tmp_path.iterdir()] == ["good"]

    def full(arrays, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="no space"):
        program.save(tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    with pytest.raises(ProgramError, match=r"no folder .*nowhere for file"):
        program.save(tmp_path / "nowhere" / "file")


def rewritten(saved, path, change, **arrays):
    """The file with its manifest changed in place by ``change``, and arrays replaced."""
    from safetensors import safe_open

    with safe_open(saved, "numpy") as file:
        metadata = file.metadata()
    manifest = json.loads(metadata["manifest"])
    change(manifest)
    save_file(load_file(saved) | arrays, path, {**metadata, "manifest": json.dumps(manifest)})
    return path


CHANGES = {
    "contract": (
        lambda m: m.update(contract=99),
        "has contract version 99, this is 2",
    ),
    "digest": (lambda m: m.update(digest=5), "is corrupt: digest of tiny is .*, not 00000005"),
    "geometry": (
        lambda m: m["config"]["geometry"].update(tile=3),
        "tile must be a power of two, got 3",
    ),
    "missing": (lambda m: m.pop("io_bytes"), "is corrupt: .*io_bytes"),
    "unknown": (lambda m: m.update(colour=1), "is corrupt: .*colour"),
    "labels": (lambda m: m["labels"].pop(), r"is corrupt: \d+ labels for \d+ instructions"),
    "tensor": (
        lambda m: m["output"].update(offset=1 << 40),
        r"ends at byte \d+, the IO window has \d+",
    ),
    "width": (lambda m: m["inputs"][0].update(width=999), "999 elements exceed a pitch of 16"),
    "sequence": (
        lambda m: m["sequences"].append([10**6, 0]),
        "instruction 1000000 for sequence 0 is not there",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_manifests_are_checked(saved, tmp_path, name):
    change, message = CHANGES[name]
    path = rewritten(saved, tmp_path / "changed", change)
    with pytest.raises(ProgramError, match=message) as caught:
        transept.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"instructions": np.full(64, 255, np.uint8)}, "instruction 0: unknown opcode 0xff"),
        ({"instructions": np.zeros(33, np.uint8)}, "33 bytes, not a multiple of 32"),
        ({"weights": np.zeros(4, np.float32)}, r"weights are float32\[4\]"),
    ],
)
def test_arrays_are_checked(saved, tmp_path, arrays, message):
    path = rewritten(saved, tmp_path / "changed", lambda m: None, **arrays)
    with pytest.raises(ProgramError, match=message):
        transept.load(path)


def test_files_that_are_no_program(saved, tmp_path):
    with pytest.raises(ProgramError, match=r"no program file .*nothing"):
        transept.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ProgramError, match="text is corrupt"):
        transept.load(tmp_path / "text")
    save_file({"x": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(ProgramError, match="other is no transept-program-1 file"):
        transept.load(tmp_path / "other")


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_files(saved, tmp_path, share):
    data = saved.read_bytes()
    (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ProgramError, match="cut is corrupt"):
        transept.load(tmp_path / "cut")


def test_another_accelerator_is_refused(saved):
    launch = Launch.load(saved)
    message = (
        f"compiled for tiny \\({TINY.digest:08x}\\), "
        f"this accelerator is pynq_z2 \\({PYNQ_Z2.digest:08x}\\)"
    )
    with pytest.raises(ProgramError, match=message):
        launch.check(PYNQ_Z2)
    with pytest.raises(ProgramError, match=message):
        Driver(EmulatorDevice(PYNQ_Z2)).load(launch)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5], "program takes 2 sequences, got 1"),
        ([5, 0], "sequence length 0 is outside 1 to 5"),
        ([6, 5], "sequence length 6 is outside 1 to 5"),
    ],
)
def test_lengths_are_checked(program, lengths, message):
    with pytest.raises(ProgramError, match=message):
        program.run_integers(np.zeros((10, 8), np.int16), lengths)


def test_devices_have_room_for_their_program(program):
    device = open_device("emulator", TINY, program.launch)
    Driver(device).load(program.launch)
