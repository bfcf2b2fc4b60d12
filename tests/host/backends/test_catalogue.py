"""Whatever runs regions, by name: which there are, with which options, and what they need."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from graphs import mlp, random_inputs

from transept.golden.config import TINY
from transept.host.backends import gpu
from transept.host.backends.accelerator import AcceleratorBackend
from transept.host.backends.base import GraphBackend
from transept.host.backends.catalogue import BACKENDS, check_backend, open_backend
from transept.host.backends.cpu import CpuGraph
from transept.host.backends.golden import GoldenGraph
from transept.host.backends.gpu import GpuGraph
from transept.host.compiler.cut import Shape
from transept.host.devices.base import DeviceError
from transept.host.parallel.sequences import SequenceParallelGraph
from transept.host.runtime.region import Region

GRAPH = mlp(1, [4, 8])


def without(monkeypatch, *packages):
    """As if some packages were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in packages else find(name)
    )


def test_every_device_has_its_options():
    assert BACKENDS == ("rtl", "emulator", "gpu", "cpu", "golden", "pynq")
    for name, options in {"gpu": {"timeout": 1, "cards": 2}, "emulator": {"seed": 1}}.items():
        check_backend(name, options)
    messages = {
        "gpu": "device gpu has no option 'x', there are timeout, cards",
        "cpu": "device cpu has no option 'x', there are none",
        "golden": "device golden has no option 'x', there are none",
        "emulator": "device emulator has no option 'x', there are dram_bytes, seed",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=f"^{message}$"):
            open_backend(name, TINY, x=1)
    with pytest.raises(ValueError, match=r"^no device 'npu', there is rtl, emulator, gpu, cpu, go"):
        open_backend("npu", TINY)


def test_devices_are_opened_by_name(monkeypatch):
    assert isinstance(open_backend("emulator", TINY), AcceleratorBackend)
    assert isinstance(open_backend("golden", TINY).prepared(GRAPH), GoldenGraph)
    assert isinstance(open_backend("cpu", TINY).prepared(GRAPH), CpuGraph)
    without(monkeypatch, "torch")
    assert isinstance(open_backend("cpu", TINY).prepared(GRAPH), GoldenGraph)


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_what_the_gpu_needs_is_told(monkeypatch, package):
    without(monkeypatch, package)
    message = rf"^gpu: {package} is not installed; pip install 'transept\[gpu\]'$"
    with pytest.raises(DeviceError, match=message):
        open_backend("gpu", TINY)


@pytest.mark.parametrize(("interpreted", "threads"), [(True, 1), (False, 3)])
def test_several_cards_share_the_sequences(monkeypatch, interpreted, threads):
    """An interpreter takes one kernel at a time."""
    monkeypatch.setattr("transept.host.kernels.INTERPRETED", interpreted)
    monkeypatch.setattr(gpu, "check_card", lambda: None)
    monkeypatch.setattr(gpu, "cards", lambda count: [torch.device("cpu")] * count)
    found = open_backend("gpu", TINY, cards=3, timeout=5.0).prepared(GRAPH)
    assert isinstance(found, SequenceParallelGraph)
    assert [prepared._timeout for prepared in found._prepared] == [5.0] * 3
    assert found._pool._max_workers == threads
    one = open_backend("gpu", TINY, timeout=7.0, cards=1).prepared(GRAPH)
    assert isinstance(one, GpuGraph)
    assert one._timeout == 7.0


def test_a_graph_is_prepared_once():
    """With the options of its device; what it is asked is passed on."""
    asked = []

    class Prepared:
        def prepare(self, shape, lengths):
            asked.append(("prepare", shape, lengths))

        def run(self, inputs, lengths):
            asked.append(("run", inputs, lengths))
            return {"y": 3}

    def prepare(graph, **options):
        asked.append((graph, options))
        return Prepared()

    backend = GraphBackend(prepare, timeout=5)
    region, shape = Region("region", GRAPH, TINY), Shape(1, {"rows": 4})
    backend.prepare(region, shape, {"rows": [3]})
    assert backend.run(region, shape, {"x": 1}, {"rows": [2]}) == ({"y": 3}, None, None)
    assert asked == [
        (GRAPH, {"timeout": 5}),
        ("prepare", shape, {"rows": [3]}),
        ("run", {"x": 1}, {"rows": [2]}),
    ]


def test_the_golden_model_needs_no_torch(monkeypatch):
    given = random_inputs(GRAPH, 2, 3)
    prepared = GoldenGraph(GRAPH)
    assert prepared.prepare(Shape(2, {"rows": 3})) is None
    wanted = prepared.run(given, {"rows": [3, 2]})
    monkeypatch.setitem(sys.modules, "torch", None)
    found = prepared.run(given, {"rows": [3, 2]})
    assert found.keys() == wanted.keys()
    for name, y in found.items():
        assert y.dtype == wanted[name].dtype == np.int16
        assert np.array_equal(y, wanted[name])


# --- cards
def test_cards_are_numbered(monkeypatch):
    monkeypatch.setattr(gpu, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpu.cards(2) == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert gpu.cards(1) == [torch.device("cuda", 0)]
    for count in (0, 3):
        with pytest.raises(DeviceError, match=f"^gpu: {count} cards, torch finds 2$"):
            gpu.cards(count)
    monkeypatch.setattr(gpu, "INTERPRETED", True)
    assert gpu.cards(3) == [torch.device("cpu")] * 3


@pytest.mark.parametrize(("found", "fits"), [((8, 9), False), ((9, 0), True), ((10, 0), True)])
def test_a_card_is_as_new_as_kernels_need(monkeypatch, found, fits):
    monkeypatch.setattr(gpu, "ASKED_TO_INTERPRET", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: found)
    if fits:
        gpu.check_card()
        return
    message = r"^gpu: a card has compute capability 8\.9, kernels need 9\.0$"
    with pytest.raises(DeviceError, match=message):
        gpu.check_card()
