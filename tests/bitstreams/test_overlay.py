"""The files of a build."""

import dataclasses
import json

import pytest

from transept.bitstreams.boards import BOARDS
from transept.bitstreams.hwh import hwh
from transept.bitstreams.overlay import find_overlay, read_manifest, simulated_overlay
from transept.golden.config import CONTRACT_VERSION, TINY

BOARD = dataclasses.replace(BOARDS["pynq_z2"], config=TINY)


@pytest.fixture
def overlay(tmp_path):
    return simulated_overlay(tmp_path / "overlay", BOARD, "module;")


def test_files_are_named_by_their_build(overlay, tmp_path):
    assert [path.suffix for path in overlay.files] == [".bit", ".hwh", ".json"]
    assert len({path.stem for path in overlay.files}) == 1
    assert overlay.bitfile.stem.startswith("transept_pynq_z2_")
    assert all(path.is_file() for path in overlay.files)
    assert overlay.bitfile.with_suffix(".hwh").read_text() == hwh(BOARD)
    again = simulated_overlay(tmp_path / "again", BOARD, "module;")
    assert again.bitfile.name == overlay.bitfile.name
    assert again.bitfile.read_bytes() == overlay.bitfile.read_bytes()


def test_whatever_changes_is_another_build(overlay, tmp_path):
    others = [
        (BOARD, "module; "),
        (dataclasses.replace(BOARD, register_base=0x4100_0000), "module;"),
        (dataclasses.replace(BOARD, config=TINY.replace(queue_depth=4)), "module;"),
    ]
    names = {simulated_overlay(tmp_path / str(i), *o).bitfile.name for i, o in enumerate(others)}
    assert len(names | {overlay.bitfile.name}) == 4


def test_the_manifest_tells_what_the_hardware_is(overlay):
    found = read_manifest(overlay.bitfile)
    assert found == overlay.manifest
    assert (found.board, found.config, found.tool) == ("pynq_z2", "tiny", "simulation")
    assert (found.config_digest, found.contract) == (TINY.digest, CONTRACT_VERSION)
    assert found.clock_mhz == 100
    assert len(found.rtl_sha256) == 64
    assert found.part == "xc7z020clg400-1"
    assert (found.resources, found.fmax_mhz, found.slack_ns) == (None, None, None)


def test_overlays_are_found(overlay):
    assert find_overlay(overlay.bitfile.parent, "pynq_z2") == overlay


def test_what_is_no_overlay_is_told(overlay, tmp_path):
    folder = overlay.bitfile.parent
    with pytest.raises(ValueError, match=r"must hold one bitstream, there is none$"):
        find_overlay(tmp_path, "pynq_z2")
    with pytest.raises(ValueError, match=r"\.bit is for pynq_z2, not for kv260$"):
        find_overlay(folder, "kv260")
    overlay.bitfile.with_suffix(".hwh").unlink()
    with pytest.raises(ValueError, match=r"\.bit has no transept_\w+\.hwh beside it$"):
        find_overlay(folder, "pynq_z2")
    manifest = overlay.bitfile.with_suffix(".json")
    manifest.write_text(json.dumps({"board": "pynq_z2"}))
    with pytest.raises(ValueError, match=r"\.json is no manifest: .*missing"):
        find_overlay(folder, "pynq_z2")
    wrong = {"config_digest": "abc", "clock_mhz": None, "tool": [1], "part": True}
    for name, value in wrong.items():
        manifest.write_text(json.dumps(dataclasses.asdict(overlay.manifest) | {name: value}))
        with pytest.raises(ValueError, match=rf"\.json is no manifest: {name} is "):
            find_overlay(folder, "pynq_z2")
    manifest.unlink()
    with pytest.raises(ValueError, match=r"\.bit has no transept_\w+\.json beside it$"):
        find_overlay(folder, "pynq_z2")
    folder.joinpath("other.bit").touch()
    with pytest.raises(ValueError, match=r"must hold one bitstream, there is other.bit, transept_"):
        find_overlay(folder, "pynq_z2")
