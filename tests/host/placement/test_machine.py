"""Costs in files: those of this machine and configuration, and those that are told."""

import json
import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from graphs import mlp
from placements import costs

from transept.golden.config import PYNQ_Z2, TINY
from transept.host.placement import machine as module
from transept.host.placement.machine import (
    costs_file,
    costs_path,
    load_costs,
    machine,
    read_costs,
    save_costs,
)

GRAPH = mlp(1, [8, 8])
KNOWN = costs(GRAPH, 0, launch=1e-4, rate=1e9)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    return tmp_path


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "costs.json"
    told = costs_file({"cpu": KNOWN}, command="a command")
    path.write_text(json.dumps(told))
    assert read_costs(path) == {"cpu": KNOWN}
    assert told["command"] == "a command"
    assert told["machine"] == machine()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", told["date"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.pop("devices"), "'devices'"),
        (lambda told: told.update(version=1), "its version is 1, this is 2"),
        (lambda told: told["devices"]["cpu"].pop("launch"), "'launch'"),
        (lambda told: told.update(devices=[]), "attribute 'items'"),
    ],
)
def test_what_is_no_costs_is_refused(tmp_path, change, message):
    path = tmp_path / "costs.json"
    told = costs_file({"cpu": KNOWN})
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=rf"costs\.json holds no costs: .*{message}"):
        read_costs(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.json holds no costs: .*No such file"):
        read_costs(tmp_path / "nothing.json")


def test_costs_are_kept_beside_others():
    save_costs({"cpu": KNOWN}, TINY)
    other = costs(mlp(1, [8, 12]), 1, launch=2e-4)
    assert save_costs({"cpu": other, "gpu": KNOWN}, TINY) == load_costs(TINY)
    found = load_costs(TINY)
    assert found["gpu"] == KNOWN
    assert found["cpu"].launch == 2e-4
    assert found["cpu"].samples == KNOWN.samples | other.samples


def test_what_is_measured_again_replaces_what_was():
    save_costs({"cpu": KNOWN}, TINY)
    save_costs({"cpu": KNOWN.scaled(2.0)}, TINY)
    assert load_costs(TINY)["cpu"].samples == KNOWN.scaled(2.0).samples


def test_a_broken_file_is_none():
    save_costs({"cpu": KNOWN}, TINY)
    costs_path(TINY).write_text("{")
    assert load_costs(TINY) == {}


def test_costs_of_another_configuration_are_not_used():
    save_costs({"cpu": KNOWN}, TINY)
    assert load_costs(PYNQ_Z2) == {}


@pytest.mark.parametrize("about", ["processor", "cores", "threads", "gpu", "torch", "triton"])
def test_costs_of_another_machine_are_not_used(monkeypatch, about):
    save_costs({"cpu": KNOWN}, TINY)
    found = machine()
    monkeypatch.setattr(module, "machine", lambda: found | {about: "another"})
    assert load_costs(TINY) == {}


def test_the_machine_has_its_threads(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 77)
    assert machine()["threads"] == "77"


def test_the_machine_is_told(monkeypatch):
    cpuinfo = "processor : 0\nmodel name\t: A Chip: @ 3 GHz \nflags : x\nmodel name : Another\n"
    monkeypatch.setattr(Path, "read_text", lambda self: cpuinfo)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {1, 5, 6} if process == 0 else {})
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A GPU")
    versions = {"torch": "2.0", "numpy": "1.0"}

    def version(package):
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr("importlib.metadata.version", version)
    assert machine() == {
        "processor": "A Chip: @ 3 GHz",
        "cores": "3",
        "threads": "7",
        "gpu": "A GPU",
        "torch": "2.0",
        "triton": "",
        "numpy": "1.0",
    }


def test_a_machine_without_what_tells(monkeypatch):
    def unreadable(self):
        raise OSError("no such file")

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setattr("importlib.metadata.version", lambda package: "1")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "riscv")
    monkeypatch.setitem(sys.modules, "torch", None)
    found = machine()
    assert (found["processor"], found["threads"], found["gpu"]) == ("riscv", "1", "")


def test_costs_are_kept_in_the_cache_as_a_file(cache):
    path = costs_path(TINY)
    assert (path.parent, path.suffix) == (cache / "costs", ".json")
    save_costs({"cpu": KNOWN}, TINY)
    assert list(json.loads(path.read_text())) == ["version", "machine", "date", "devices"]
    assert read_costs(path) == {"cpu": KNOWN}


def test_folders_of_the_cache_are_made(cache, monkeypatch):
    monkeypatch.setenv("TRANSEPT_CACHE", str(cache / "not" / "yet"))
    save_costs({"cpu": KNOWN}, TINY)
    assert load_costs(TINY) == {"cpu": KNOWN}


def test_costs_that_cannot_be_kept_are_known_and_warned_of(cache, caplog):
    (cache / "costs").write_text("a file where the folder should be")
    assert save_costs({"cpu": KNOWN}, TINY) == {"cpu": KNOWN}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.match("measured costs are not kept, see TRANSEPT_CACHE: .*costs", record.message)
    assert load_costs(TINY) == {}
