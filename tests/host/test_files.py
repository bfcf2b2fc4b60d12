"""Files appear whole or not at all."""

import os
import secrets
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from transept.host import files
from transept.host.files import check_writable, whole_file

#: Writes a long file where no file may have more than 1,000 bytes, as on a full disk.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from transept.host.files import whole_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with whole_file(Path(sys.argv[1])) as place:
    place.write_text("x" * 100_000)
"""


def write(path, text="new"):
    with whole_file(path) as place:
        place.write_text(text)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_full_disk_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "accelerator.v"
    if before:
        path.write_text(before)
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.rstrip().endswith("OSError: [Errno 27] File too large")
    assert [found.read_text() for found in tmp_path.iterdir()] == ([before] if before else [])


@pytest.fixture
def interrupts():
    """They count, even if a shell started this in the background, where they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted():
        with whole_file(path) as place:
            place.write_text("ne")
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [found.read_text() for found in tmp_path.iterdir()] == ["old"]


def test_modes_are_those_of_other_files(tmp_path):
    umask = os.umask(0o022)
    try:
        with whole_file(tmp_path / "new") as place:
            place.unlink()
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o600))  # as some writers do
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o640)
        write(tmp_path / "old")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o640


def test_who_reads_meanwhile_sees_the_old_file(tmp_path):
    path = tmp_path / "file"
    write(path, "old")
    with path.open() as reader:
        write(path)
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_devices_and_pipes_are_written_to(tmp_path):
    null = Path(os.devnull)
    write(null)
    assert null.is_char_device()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / "pipe")
    assert os.read(reader, 10) == b"new"
    os.close(reader)


def test_an_open_file_is_written_to_and_not_replaced(tmp_path):
    """As ``-o /dev/stdout`` where it is redirected to a file."""
    with (tmp_path / "file").open("w+") as file:
        path = Path(f"/dev/fd/{file.fileno()}")
        check_writable(path)
        write(path)
        assert file.read() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_written_is_refused_before(tmp_path):
    check_writable(None)
    check_writable(tmp_path / "new")
    with pytest.raises(ValueError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(ValueError, match=r"no folder .*no for x"):
        check_writable(tmp_path / "no" / "x")


def test_a_folder_without_permission_is_refused_before(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(files.os, "access", lambda folder, mode: asked.append((folder, mode)))
    with pytest.raises(ValueError, match=f"no permission to write x in {tmp_path}"):
        check_writable(tmp_path / "x")
    assert asked == [(tmp_path, os.W_OK)]
    check_writable(Path(os.devnull))


def test_writers_of_one_process_are_in_nobodys_way(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as first:
        with whole_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        first.write_text("first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_taken_is_no_place(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda count: "x" * 2 * count)
    taken = tmp_path / f".file.{'x' * 16}.part"
    taken.touch()
    with pytest.raises(FileExistsError):
        write(tmp_path / "file")
    assert list(tmp_path.iterdir()) == [taken]
