"""Entries appear whole or not at all, damage is seen, and old ones can be removed."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from transept.sim import cache
from transept.sim.cache import Recipe
from transept.sim.tools import BuildError, Tool, ToolMissing

NO_TOOL = Tool("nothing", "tests", "apt-get install", "nothing", program="no-such-program")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path))
    return tmp_path


def recipe(name="a", *, tools=(), versions="1"):
    return Recipe("kind", name, cache.content_hash(name), tools, lambda: versions)


def write(folder):
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("twelve bytes")


def must_not_make(folder):
    raise AssertionError("this was built before")


def names(folder):
    return sorted(path.name for path in (folder / "kind").iterdir())


def test_made_once_by_many():
    made = []

    def make(folder):
        time.sleep(0.1)
        write(folder)
        made.append(folder)

    threads = [threading.Thread(target=recipe().make, args=(make,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (recipe().make(must_not_make) / "inner" / "file").read_text() == "twelve bytes"


def test_the_place_is_made_of_hashes(folder):
    path = recipe("../../evil").make(write)
    assert path.parent == folder / "kind"
    assert set(path.name) <= set("0123456789abcdef-")


def test_a_failed_maker_leaves_nothing(folder):
    def make(folder):
        (folder / "half").write_text("")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        recipe().make(make)
    assert [name.split(".")[1] for name in names(folder)] == ["lock"]


def _make_for_ever(path):
    def make(folder):
        (folder / "half").write_text("")
        path.write_text("")
        time.sleep(60)

    recipe().make(make)


@pytest.fixture
def killed(tmp_path_factory):
    """A maker that died in the middle of its work."""
    started = tmp_path_factory.mktemp("started") / "now"
    process = multiprocessing.get_context("fork").Process(target=_make_for_ever, args=(started,))
    process.start()
    while not started.exists():
        time.sleep(0.01)
    yield process
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_what_a_killed_maker_left_goes_with_the_next_build(folder, killed):
    kill(killed)
    assert any(name.endswith(".scratch") for name in names(folder))
    path = recipe().make(write)
    assert names(folder) == [path.name, f"{path.name}.lock"]
    assert not (path / "half").exists()


def test_or_when_the_cache_is_pruned_but_not_while_it_works(folder, killed):
    assert cache.prune(1000) == []
    kill(killed)
    assert [entry.unfinished for entry in cache.prune(1000)] == [True]
    assert names(folder) == []


def damage_manifest(path):
    (path / "manifest.json").write_text('{"files": 3}')


DAMAGE = {
    "cut": (lambda path: (path / "inner" / "file").write_text("x"), "inner/file has 1 bytes"),
    "changed": (
        lambda path: (path / "inner" / "file").write_text("twelve bits!"),
        "other contents",
    ),
    "gone": (lambda path: (path / "inner" / "file").unlink(), "file is missing"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
    "bad manifest": (damage_manifest, "manifest.json: "),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_and_mended(caplog, damage, message):
    path = recipe().make(write)
    damage(path)
    assert recipe().find() is None
    assert recipe().make(write) == path
    (record,) = caplog.records
    assert message in record.getMessage()
    assert str(path) in record.getMessage()
    assert recipe().find() == path


def test_other_tools_make_another_entry():
    assert recipe(versions="1").make(write) != recipe(versions="2").make(write)


def test_without_tools_the_latest_entry_serves():
    assert recipe(tools=(NO_TOOL,)).find() is None
    with pytest.raises(ToolMissing, match="nothing missing"):
        recipe(tools=(NO_TOOL,)).make(must_not_make)
    old = recipe(versions="1").make(write)
    new = recipe(versions="2").make(write)
    os.utime(old / "manifest.json", (0, 0))
    assert recipe(tools=(NO_TOOL,)).make(must_not_make) == new
    (new / "inner" / "file").unlink()
    assert recipe(tools=(NO_TOOL,)).make(must_not_make) == old
    assert recipe("b", tools=(NO_TOOL,)).find() is None


COSTS = f"{'0f' * 12}.json"


def test_prune_removes_what_was_not_used(folder):
    old, new = recipe("old").make(write), recipe("new").make(write)
    costs = folder / "costs" / COSTS
    costs.parent.mkdir()
    costs.write_text("x" * 1000)
    for path in (old / "manifest.json", costs):
        os.utime(path, (0, 0))
    found = {entry.label: (entry.kind, entry.nbytes) for entry in cache.entries()}
    assert set(found) == {"old", "new", COSTS}
    assert found[COSTS] == ("costs", 1000)
    assert found["old"][1] > 12
    assert {entry.label for entry in cache.prune(3600)} == {"old", COSTS}
    assert names(folder) == [new.name, f"{new.name}.lock"]
    assert list(costs.parent.iterdir()) == []
    assert recipe("new").make(must_not_make) == new


def test_files_of_others_stay(folder):
    """The cache may be anybody's folder."""
    others = [
        folder / name
        for name in (
            "src/main.c",
            "thesis/ch1.txt/x",
            "costs/budget.json",
            "kernels/linux.json",
            "a/b.lock",
        )
    ]
    for path in others:
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (0, 0))
        os.utime(path.parent, (0, 0))
    assert cache.entries() == cache.prune(0) == []
    assert all(path.exists() for path in others)


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("TRANSEPT_CACHE", "")
    assert cache.cache_dir() == Path(cache.__file__).resolve().parents[1] / ".cache"


def test_a_cache_that_cannot_be_written_is_named(folder, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRANSEPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"cannot be written, see TRANSEPT_CACHE: .*Not a dir"):
        recipe().make(write)


def test_use_keeps_an_entry():
    path = recipe().make(write)
    os.utime(path / "manifest.json", (0, 0))
    assert recipe().find() == path
    assert cache.prune(3600) == []


def test_hash_tells_parts_apart():
    assert cache.content_hash("ab", "c") != cache.content_hash("a", "bc")
    assert cache.content_hash({"a": 1, "b": 2}) == cache.content_hash({"b": 2, "a": 1})
