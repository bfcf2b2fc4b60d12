"""The unmodified client of pynq, on a board whose logic is our RTL under Verilator."""

import dataclasses
import hashlib
import itertools
import json

import pytest
from boards import board_of, client, overlay_of, process_of, served, steps
from graphs import post_norm, random_inputs

import transept
from transept.bitstreams.bitfile import write_bitfile
from transept.bitstreams.boards import BOARDS, INSTANCE, VLNV, Family
from transept.bitstreams.hwh import hwh
from transept.golden import registers
from transept.golden.config import CONTRACT_VERSION, PYNQ_Z2, TINY
from transept.host.compiler.cut import Shape
from transept.host.deploy.cases import save_cases
from transept.host.deploy.package import write_package
from transept.host.deploy.prepare import test_cases as cases_of
from transept.host.models import load_text_model
from transept.host.runtime.file import save
from transept.host.runtime.program import Program
from transept.host.runtime.region import Region

STEPS = [
    "package", "files", "identification", "memory, by the host", "memory, by the accelerator",
    "one tile", "one layer", "it",
]  # fmt: skip


@pytest.fixture(scope="module")
def overlay(tmp_path_factory):
    return overlay_of(tmp_path_factory.mktemp("overlay"))


@pytest.fixture(scope="module")
def host():
    with served() as address:
        yield address


def packed(folder, overlay, config=TINY, name="pynq_z2"):
    """A package with a small encoder."""
    graph = post_norm(2, 8, 2, [12, 12])
    region = Region("it", graph, config)
    region.executable(Shape(1, {"rows": 5}))
    part = Program(config, [region]).run_region(region, random_inputs(graph, 1, 5), device="cpu")
    save(folder / "a.tsp", config, [region])
    cases = save_cases(list(cases_of(config, [part], "it")))
    program = (folder / "a.tsp").read_bytes()
    return write_package(folder / "package", name, overlay, program, cases).folder


@pytest.fixture(scope="module")
def package(tmp_path_factory, overlay):
    return packed(tmp_path_factory.mktemp("package"), overlay)


# --- as pynq sees it
REGISTERS = f"""
import json, sys, pynq
from pynqmetadata.models.zynq_proc_sys_core import ZynqProcSysCore
ZynqProcSysCore.clk_freq_param_name = lambda self, i: f"PCW_ACT_FPGA{{i}}_PERIPHERAL_FREQMHZ"
overlay = pynq.Overlay(sys.argv[1])
ip = overlay.{INSTANCE}
registers = ip.register_map
print(json.dumps([overlay.is_loaded(), overlay.ip_dict["{INSTANCE}"]["type"],
    int(registers.ID.VALUE), int(registers.CONTRACT.VALUE), int(registers.STATUS.IDLE),
    pynq.Clocks.fclk0_mhz]))
"""


def test_an_overlay_without_a_driver_of_ours(host, overlay):
    """``Overlay``, ``register_map`` and ``Clocks``, with no code of ours in the client."""
    found = client(host, REGISTERS, overlay.bitfile)
    assert found[:2] == [True, VLNV]
    assert found[2:5] == [registers.MAGIC, CONTRACT_VERSION, 1]
    assert found[5] == pytest.approx(100, rel=0.01)


PARSED = """
import json, sys
from pynqmetadata.frontends import Metadata
from pynqmetadata.views.runtime import RuntimeMetadataParser
ip = RuntimeMetadataParser(Metadata(input=sys.argv[1])).ip_dict["accelerator_0"]
print(json.dumps([ip["type"], ip["phys_addr"], ip["addr_range"], {
    name: [r["address_offset"], r["size"], r["access"], {
        f: [v["bit_offset"], v["bit_width"]] for f, v in r["fields"].items()}]
    for name, r in ip["registers"].items()}]))
"""


@pytest.mark.parametrize("name", BOARDS)
def test_hand_offs_of_every_board_are_read_by_pynq(name, tmp_path):
    board = BOARDS[name]
    base = 0x4000_0000 if board.family is Family.ZYNQ_7000 else 0xA000_0000
    (tmp_path / "a.hwh").write_text(hwh(board))
    kind, address, size, found = client("", PARSED, tmp_path / "a.hwh")
    assert (kind, address, size) == (VLNV, base, 0x1_0000)
    for register in registers.table(board.config):
        for i, offset in enumerate(register.offsets):
            name = register.name if register.count == 1 else f"{register.name}_{i}"
            at, bits, access, fields = found.pop(name)
            assert (at, bits) == (offset, 32)
            assert access == ("read-write" if register.writable else "read-only")
            assert fields == {f.name.upper(): [f.low, f.width] for f in register.fields}
    assert not found


# --- the way of a deployment
def test_a_right_board_passes_every_step(host, package):
    found = steps(host, package)
    assert [(step, error) for step, error, _ in found] == [(step, "") for step in STEPS]
    assert all(cycles > 0 for *_, cycles in found[4:])


def test_a_board_with_an_ultrascale_passes_every_step(tmp_path):
    overlay = overlay_of(tmp_path / "overlay", name="kv260")
    package = packed(tmp_path, overlay, name="kv260")
    with served(name="kv260") as host:
        found = steps(host, package)
    assert [(step, error) for step, error, _ in found] == [(step, "") for step in STEPS]


def test_without_a_self_test_the_files_are_sent(host, package):
    assert [step for step, *_ in steps(host, package, "--no-self-test")] == STEPS[:2]


def last(found):
    """The last step and what was wrong; all before it were right."""
    *right, (step, error, _) = found
    assert not any(error for _, error, _ in right)
    return step, error


@pytest.mark.parametrize(
    ("options", "step", "error"),
    [
        (("--stuck", "13"), "memory, by the host", "data bit 13 of 64 is stuck at 1: "),
        (("--corrupts", "/home"), "files", "/home/xilinx/transept/transept_pynq_z2_"),
        (("--contract", "2"), "identification", "pynq: contract version is 0x00000002, this dri"),
    ],
)
def test_a_defect_of_the_board_is_named(options, step, error, package):
    with served(*options) as host:
        found = last(steps(host, package))
    assert found[0] == step
    assert found[1].startswith(error)


def test_a_bitstream_of_another_configuration_is_named(host, tmp_path):
    """Hand-off and manifest are those of ``tiny``; the logic has a shorter queue."""
    other = TINY.replace(queue_depth=4)
    board_of(other)
    package = packed(tmp_path, overlay_of(tmp_path / "overlay"))
    design = {"config": dataclasses.asdict(other), "register_base": 0x4000_0000}
    reseal(package, write_bitfile("a", "p", design))
    step, error = last(steps(host, package))
    assert step == "identification"
    assert error == (
        f"pynq: digest of tiny is {other.digest:#010x}, this driver needs {TINY.digest:#010x}"
    )


def reseal(package, bitfile):
    """Put another bitstream in the place of the package's."""
    manifest = json.loads((package / "package.json").read_text())
    (path,) = package.glob("*.bit")
    path.write_bytes(bitfile)
    manifest["files"][path.name] = hashlib.sha256(bitfile).hexdigest()
    (package / "package.json").write_text(json.dumps(manifest))


def test_an_overlay_for_another_program_is_named(host, tmp_path):
    other = TINY.replace(queue_depth=4)
    package = packed(tmp_path, overlay_of(tmp_path / "overlay", other))
    step, error = last(steps(host, package))
    assert step == "identification"
    assert f"is for tiny ({other.digest:08x}), the program is for tiny ({TINY.digest:08x})" in error


def test_an_overlay_without_an_accelerator_is_named(host, tmp_path):
    """Of somebody else's design."""
    package = packed(tmp_path, overlay_of(tmp_path / "overlay"))
    manifest = json.loads((package / "package.json").read_text())
    (path,) = package.glob("*.hwh")
    path.write_text(path.read_text().replace(VLNV, "other:ip:filter:1.0"))
    manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (package / "package.json").write_text(json.dumps(manifest))
    step, error = last(steps(host, package))
    assert step == "identification"
    assert f"has 0 accelerators {VLNV}, must have one" in error
    assert "other:ip:filter:1.0" in error


def test_a_corrupt_program_is_named(host, tmp_path, overlay):
    package = packed(tmp_path, overlay)
    program = package / "program.tsp"
    data = bytearray(program.read_bytes())
    data[1000] ^= 1
    program.write_bytes(data)
    step, error = last(steps(host, package))
    assert step == "package"
    assert error == "program.tsp is corrupt: its SHA-256 is another one than was packed"


@pytest.mark.slow  # ten seconds until gRPC gives up
def test_no_board_is_told(package):
    step, error = last(steps("unix:/tmp/nobody-is-here", package))
    assert step == "files"
    assert "Failed to connect to remote device" in error


# --- many jobs
JOBS = """
import json, sys, warnings, pynq
warnings.simplefilter("ignore")
from pathlib import Path
from transept.host.deploy.cases import load_cases
from transept.host.deploy.self_test import _run
from transept.host.devices.pynq import PynqDevice
from transept.host.runtime.driver import Driver
from transept.host.runtime.file import load
package, jobs = Path(sys.argv[1]), int(sys.argv[2])
config = load(package / "program.tsp").config
(bitfile,) = package.glob("*.bit")
cases = load_cases((package / "self_test.npz").read_bytes())
with PynqDevice(config, bitfile=bitfile) as device:
    driver, wrong = Driver(device), 0
    for job in range(jobs):
        if job % 10 == 9:
            driver.reset()
        error, _ = _run(driver, cases[job % len(cases)])
        wrong += bool(error)
print(json.dumps([wrong, len(device._buffers)]))
"""


@pytest.mark.parametrize("jobs", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_jobs_back_to_back_with_resets(jobs, host, package):
    assert client(host, JOBS, package, jobs) == [0, 0]


TRAPS = """
import json, sys, warnings, numpy as np, pynq
warnings.simplefilter("ignore")
from transept.golden.config import TINY
from transept.host.devices.base import DeviceError, OutOfMemoryError
from transept.host.devices.pynq import PynqDevice
device = PynqDevice(TINY, bitfile=sys.argv[1])
told = []
def attempt(what):
    try:
        what()
        told.append("nothing")
    except (DeviceError, OutOfMemoryError) as error:
        told.append(f"{type(error).__name__}: {error}")
attempt(lambda: device.allocate(1 << 30))
attempt(lambda: device.read(0xff0))
attempt(lambda: device.write(0, 1))
buffer = device.allocate(100)
device.write(0x0c0, np.int64(buffer.address))
told += [device.read(0x0c0) == buffer.address, buffer.array.size, int(buffer.array.sum())]
device.release_all()
print(json.dumps(told))
"""


LEFT = """
import json, sys, warnings, pynq
warnings.simplefilter("ignore")
from transept.golden import registers
from transept.golden.config import TINY
from transept.host.devices.pynq import PynqDevice
def status():
    found = registers.decode("STATUS", device.read(registers.offset("STATUS")))
    return [found["idle"], found["error"]]
told = []
with PynqDevice(TINY, bitfile=sys.argv[1]) as device:
    device.write(registers.offset("WINDOW_LIMIT_PROGRAM"), 0)
    device.write(registers.offset("CONTROL"), registers.encode("CONTROL", start=1))
    while not status()[1]:
        pass
    told.append(status())
print(json.dumps(told + [status()]))
"""


def test_what_is_left_is_idle(host, overlay):
    """One that was left busy could still write to memory that others have."""
    assert client(host, LEFT, overlay.bitfile) == [[0, 1], [1, 0]]


def test_what_a_board_refuses_is_an_error(host, overlay):
    memory, read, write, *rest = client(host, TRAPS, overlay.bitfile)
    begins = f"OutOfMemoryError: buffer of {1 << 30} bytes: pynq: allocation: there is no buffer"
    assert memory.startswith(begins)
    assert read.startswith("DeviceError: pynq: read of register 0xff0: ")
    assert (
        write == "DeviceError: pynq: write of register 0x000: write of register 0x000: response 2"
    )
    assert rest == [True, 100, 0]


def test_a_board_that_dies_is_an_error(overlay):
    code = TRAPS.partition("attempt(lambda: device.allocate")[0] + KILL
    with served() as host:
        told = client(host, code, overlay.bitfile, process_of(host))
    assert told[0].startswith("DeviceError: pynq: read of register 0x000: ")
    assert "\n" not in told[0]
    assert "RPC" not in told[0]


def test_a_board_that_is_frozen_is_lost(overlay):
    """Its process is stopped; the client has one second of patience, and asks no second time."""
    code = TRAPS.partition("attempt(lambda: device.allocate")[0] + FREEZE
    with served() as host:
        told = client(host, code, overlay.bitfile, process_of(host))
    lost = "the board has not answered for 1 s"
    assert told == [
        f"DeviceLostError: pynq: read of register 0x000: {lost}",
        f"DeviceLostError: pynq: allocation: {lost}",
        *("nothing", "nothing"),  # it keeps its buffers
        f"DeviceLostError: pynq: connection: {lost}",
    ]


FREEZE = """
import os, signal
from pathlib import Path
from transept.host.deploy import client as deploy
from transept.host.devices import pynq as module
buffer = device.allocate(100)
module.ANSWER = 1.0
os.kill(int(sys.argv[2]), signal.SIGSTOP)
def running():  # any thread; where the machine is busy, some stop later
    threads = Path("/proc", sys.argv[2], "task").glob("*/stat")
    return any(thread.read_text().rpartition(")")[2].split()[0] != "T" for thread in threads)
while running():
    pass
attempt(lambda: device.read(0))
module.ANSWER = 2.0
attempt(lambda: device.allocate(10))
attempt(lambda: device.release(buffer))
attempt(device.release_all)
attempt(lambda: deploy._check_board(None, device._calls))
print(json.dumps(told), flush=True)
os.kill(int(sys.argv[2]), signal.SIGKILL)
os._exit(0)
"""
KILL = """
import os, signal, time
os.kill(int(sys.argv[2]), signal.SIGKILL)
time.sleep(0.2)
attempt(lambda: device.read(0))
print(json.dumps(told), flush=True)
os._exit(0)
"""


# --- the real model
def test_minilms_first_layer_on_the_full_size_accelerator(tmp_path):
    """Bit for bit, and how many cycles it takes: 16 x 16 MACs, two sentences of 16 tokens. The
    whole model: ``transept deploy minilm``."""
    board_of(PYNQ_Z2)
    model = load_text_model("minilm")
    layers = model.module.encoder.encoder
    layers.layer = layers.layer[:1]
    inputs = model.tokens(["A cat sat.", "A feline rested."], 16)
    program = transept.compile(model.module, inputs, config=PYNQ_Z2)
    program.run(*inputs, device="cpu")
    program.save(tmp_path / "a.tsp")
    every = cases_of(PYNQ_Z2, list(program.last.parts), "the model")
    cases = list(itertools.islice(every, 3))
    assert cases[2].name == "one layer"
    overlay = overlay_of(tmp_path / "overlay", PYNQ_Z2)
    data = (tmp_path / "a.tsp").read_bytes()
    package = write_package(tmp_path / "package", "pynq_z2", overlay, data, save_cases(cases))
    with served("--memory", "default") as host:
        found = steps(host, package.folder)
    assert [(step, error) for step, error, _ in found] == [(step, "") for step in STEPS[:7]]
    assert found[-1][2] < 330_000


RUN = """
import json, sys, warnings, numpy as np, pynq
warnings.simplefilter("ignore")
import transept
program = transept.load(sys.argv[1])
(region,) = program.regions
graph = region.graph
rng = np.random.default_rng(0)
sizes = {n: (1, 5, graph.values[n].width) for n in graph.inputs}
inputs = {n: rng.integers(-100, 100, size).astype(np.int16) for n, size in sizes.items()}
golden = program.run_region(region, inputs, device="golden").result
board = {"device": "pynq", "bitfile": sys.argv[2]}
found = [program.run_region(region, inputs, **board).result for _ in "ab"]
same = [all(np.array_equal(golden.outputs[n], f.outputs[n]) for n in graph.outputs) for f in found]
assert [f.device for f in found] == ["pynq", "pynq"], program.notes
opened = program.session(**board).opened
opened._ip.write = lambda *_: 1 / 0  # no more gets through
lost = program.run_region(region, inputs, **board).result
same.append(all(np.array_equal(golden.outputs[n], lost.outputs[n]) for n in graph.outputs))
print(json.dumps([same, [f.device for f in (*found, lost)], program.notes]))
"""


@pytest.mark.slow
def test_programs_run_on_a_board_as_on_any_device(host, package, overlay):
    """The same bits; and where the board fails, another device goes on."""
    same, devices, notes = client(host, RUN, package / "program.tsp", overlay.bitfile)
    assert same == [True, True, True]
    assert devices == ["pynq", "pynq", "cpu"]
    (note,) = notes
    assert note.startswith("it ran on cpu: pynq: write of register ")
