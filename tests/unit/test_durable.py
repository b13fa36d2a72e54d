import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from onetok import durable
from onetok.errors import OnetokError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_there_whole_under_its_name_alone(tmp_path):
    durable.write_text(tmp_path / "a.txt", "Grüße\n")
    durable.write_json(tmp_path / "b.json", {"b": 1, "a": "é"})
    durable.copy(tmp_path / "a.txt", tmp_path / "c.txt")
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "c.txt").read_bytes() == "Grüße\n".encode()
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": 1\n}\n'
    assert names(tmp_path) == ["a.txt", "b.json", "c.txt"]


def test_a_file_reaches_the_disk_before_its_name_and_the_folder_after_it(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda *paths: calls.append("rename") or replace(*paths))
    durable.write_bytes(tmp_path / "a", b"content")
    assert calls == ["file", "rename", "folder"]


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyError), durable.writing(path) as stream:
        stream.write(b"half of the n")
        raise KeyError
    assert path.read_text() == "old" and names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_mode_of_the_umask_whichever_library_writes_them(tmp_path, umask):
    before = os.umask(umask)
    try:
        durable.write_text(tmp_path / "a.txt", "")
        with durable.replacing(tmp_path / "b.safetensors") as path:
            save_file({"x": torch.zeros(1)}, path)  # by itself it writes files of mode 600
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o666 & ~umask}
    assert load_file(tmp_path / "b.safetensors")["x"].shape == (1,)


def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path):
    (tmp_path / "cache").write_text("of DVC")
    (tmp_path / "a").symlink_to("cache")
    durable.write_text(tmp_path / "a", "new")
    assert (tmp_path / "cache").read_text() == "of DVC" and not (tmp_path / "a").is_symlink()


def test_numbers_that_json_does_not_know_are_refused_by_their_key(tmp_path):
    with pytest.raises(
        OnetokError, match=r"s.json: cannot be written: rows.1.psnr is inf, expected a finite"
    ):
        durable.write_json(tmp_path / "s.json", {"rows": [{"psnr": 1.0}, {"psnr": float("inf")}]})
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(OnetokError, match=r"none/a.txt: cannot be written: No such file or directory"):
        durable.write_text(tmp_path / "none/a.txt", "")


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    durable.write_text(tmp_path / ("n" * 251 + ".txt"), "x")
    assert len(names(tmp_path)) == 1


def test_an_error_of_the_block_that_is_not_about_writing_passes_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), durable.writing(tmp_path / "a"):
        raise RuntimeError("shapes do not fit")


def test_leftovers_of_a_killed_program_are_removed(tmp_path):
    path = tmp_path / "a.npy"
    path.write_text("whole")
    (tmp_path / f"{durable.PARTIAL}0123.npy").write_text("ha")
    durable.remove_partial(tmp_path)
    assert names(tmp_path) == ["a.npy"]


# The limit on the size of files stands for a full disk: both make a write fail in the middle.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import save_file
from onetok import durable
from onetok.errors import OnetokError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder = Path(sys.argv[1])
large = torch.zeros(9999)

def tensors(path):
    with durable.replacing(path) as temporary:
        save_file({"x": large}, temporary)

def checkpoint(path):
    with durable.writing(path) as stream:
        torch.save({"x": large}, stream)

def part(path):
    with durable.writing(path) as stream:
        np.savez(stream, x=large.numpy())

for write in (tensors, checkpoint, part, lambda path: durable.write_bytes(path, bytes(9999))):
    try:
        write(folder / "a.bin")
    except OnetokError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_partial(tmp_path):
    (tmp_path / "a.bin").write_text("old")
    run = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 4, run.stderr
    for line in lines:
        assert line.startswith(f"{tmp_path}/a.bin: cannot be written: ") and "File too large" in line
    assert names(tmp_path) == ["a.bin"] and (tmp_path / "a.bin").read_text() == "old"


def test_a_file_system_that_cannot_flush_folders_will_do(tmp_path, monkeypatch):
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    durable.write_json(tmp_path / "a.json", [np.float64(1.5)])
    assert json.loads((tmp_path / "a.json").read_text()) == [1.5]


def test_another_file_that_cannot_be_read_meanwhile_is_not_blamed_on_this_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), durable.writing(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    assert names(tmp_path) == []
