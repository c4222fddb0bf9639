"""Files and folders that appear complete or not at all, whatever fails and whoever is killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.command import atomic
from data_prep.command.atomic import new_files, new_folder, write_json
from tests.helpers.faults import Fault, failing

KILLED = """
import os, signal, sys
from pathlib import Path
from data_prep.command import atomic
if sys.argv[2] == "exchange":
    Path.rename_ = Path.rename
    def rename(self, target):
        moved = self.rename_(target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = rename
with atomic.new_folder(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("new")
    if sys.argv[2] == "write":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_write_json_is_readable_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"λ": [1]})
    assert path.read_text() == '{\n "\\u03bb": [\n  1\n ]\n}\n'
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    write_json(path, [])
    assert path.read_text() == "[]\n"
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    before = path.lstat()
    with pytest.raises(ValueError, match=r"expected the name of a file, got .*a\.json"):
        write_json(path, 1)
    assert path.lstat() == before
    assert os.listdir(tmp_path) == ["a.json"]


def replace_folder(out: Path, text: str) -> None:
    with new_folder(out) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(text)


def replace_files(out: Path, text: str) -> None:
    with new_files(out / "a", out / "b") as new:
        for path in new:
            path.write_text(text)


def content(out: Path) -> dict[str, str]:
    assert os.listdir(out.parent) == ["out"], "leftovers"
    return {path.name: path.read_text() for path in sorted(out.iterdir())}


@pytest.mark.parametrize("replace", [replace_folder, replace_files])
@pytest.mark.parametrize("error", [28, 5])  # ENOSPC, EIO
def test_a_fault_at_any_point_leaves_the_old(tmp_path: Path, replace, error: int) -> None:
    out = tmp_path / "out"
    replace(out, "old")
    with failing(Fault(error, at=-1)) as fault:
        replace(out, "old")
    assert fault.count >= 5
    failed = 0
    for at in range(fault.count):
        text = "new"
        try:
            with failing(Fault(error, at=at)):
                replace(out, "new")
        except OSError:
            failed, text = failed + 1, "old"
        # A folder that need not be made may fail to be.
        assert text == "old" or fault.seen[at] == "mkdir"
        assert content(out) == {"a": text, "b": text}, (at, fault.seen[at])
        replace(out, "old")
    assert failed >= 5


@pytest.mark.parametrize("when", ["write", "exchange"])
def test_the_next_sweeps_what_a_killed_one_left(tmp_path: Path, when: str) -> None:
    out = tmp_path / "out"
    replace_folder(out, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), when])
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".out.*.partial"))) == 1
    replace_folder(out, "new")
    assert content(out) == {"a": "new", "b": "new"}


@pytest.mark.parametrize("when", ["write", "exchange"])
def test_whoever_writes_beside_sweeps_it_too(tmp_path: Path, when: str) -> None:
    replace_folder(tmp_path / "out", "old")
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out"), when])
    (tmp_path / ".a.12345678.partial").write_text("a file of somebody else's")
    (tmp_path / ".b.12345678.partial").symlink_to("out")
    with new_folder(tmp_path / "held") as held:
        write_json(tmp_path / "other.json", 1)
        assert held.is_dir()
    left = {".a.12345678.partial", ".b.12345678.partial", "held", "other.json", "out"}
    assert set(os.listdir(tmp_path)) == left
    assert content_of(tmp_path / "out") == "old"


def test_what_somebody_writes_is_not_swept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_folder(out) as one:
        (one / "a").write_text("one")
        with new_folder(out) as other:
            (other / "a").write_text("other")
        assert (one / "a").is_file()
        with new_folder(tmp_path / "out.b") as third:
            (third / "a").write_text("third")
            with new_folder(out) as other:
                (other / "a").write_text("other")
            assert third.is_dir()
    assert content_of(out) == "one"
    assert content_of(tmp_path / "out.b") == "third"


def content_of(out: Path) -> str:
    return (out / "a").read_text()


def test_what_is_new_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    said = []
    sync, rename, replace = os.fsync, os.rename, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (said.append("sync"), sync(fd)))
    monkeypatch.setattr(os, "rename", lambda *a, **k: (said.append("rename"), rename(*a, **k)))
    monkeypatch.setattr(os, "replace", lambda *a, **k: (said.append("rename"), replace(*a, **k)))
    replace_folder(tmp_path / "out", "new")
    assert said == ["sync"] * 3 + ["rename", "sync"]  # two files, their folder; the one around it
    said.clear()
    replace_files(tmp_path / "out", "newer")
    assert said == ["sync"] * 2 + ["rename"] * 2 + ["sync"]
    assert atomic.PARTIAL == ".partial"


def test_a_folder_that_was_away_when_its_writer_was_killed_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    replace_folder(out, "old")
    subprocess.run([sys.executable, "-c", KILLED, str(out), "exchange"])
    assert not out.exists()
    with pytest.raises(ZeroDivisionError), new_folder(out):
        print(1 / 0)
    assert content(out) == {"a": "old", "b": "old"}


def test_a_place_that_cannot_be_written_is_found_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    atomic.check_place("json", None)
    atomic.check_place("json", str(tmp_path / "file"))
    atomic.check_place("json", str(tmp_path / "new" / "folder" / "out.json"))
    assert not (tmp_path / "new").exists()
    for out, said in (
        (tmp_path, "--json: expected the name of a file, got a folder or a device"),
        (Path("/dev/full"), "--json: expected the name of a file, got a folder or a device"),
        (
            tmp_path / "file" / "out.json",
            "--json: expected a folder that can be written, got .*/file",
        ),
        (tmp_path / ("o" * 300), "--json: expected a shorter name, got oooo"),
        (Path("/proc/self/out.json"), "--json: expected a folder that can be written"),
    ):
        with pytest.raises(ValueError, match=said):
            atomic.check_place("json", str(out))


def test_a_folder_that_cannot_be_replaced_is_found_beforehand(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "new.partial").mkdir()
    for out in (tmp_path / "new", Path("new"), Path(f"{tmp_path}/new/")):
        atomic.check_new_folder("out", out)
    for out, said in (
        (Path("/proc"), "--out: expected a folder to be replaced, got a mount point: /proc"),
        (tmp_path / "loop", "--out: expected a folder, got a link that leads to itself"),
        (tmp_path / ("o" * 240), "--out: expected a shorter name, got ooo"),
        (Path("/proc/self/new"), "--out: expected a folder that can be written, got /proc/"),
    ):
        with pytest.raises(ValueError, match=said):
            atomic.check_new_folder("out", out)


def test_a_place_is_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for others in ([], [None, tmp_path / "b"]):
        atomic.check_place("json", str(tmp_path / "a"), others)
    for out in ("a", "link", "x/../a"):
        with pytest.raises(ValueError, match=r"--json: expected a file of its own, got .* is read"):
            atomic.check_place("json", str(tmp_path / out), [None, tmp_path / "a"])
    with pytest.raises(ValueError, match=r"--json: expected a file of its own, got .* is read"):
        atomic.check_place("json", str(tmp_path / "folder" / "in" / "x"), [tmp_path / "folder"])
    with pytest.raises(ValueError, match="--json: expected the name of a file, got ''"):
        atomic.check_place("json", "")


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_is_written_to_where_it_leads(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "away")
    if exists:
        (tmp_path / "away").mkdir()
    with new_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "away").iterdir()] == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"link", "away"}


@pytest.mark.parametrize("point", ["rename", "rmtree"])
def test_an_interrupt_while_a_folder_is_exchanged_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    out = tmp_path / "out"
    replace_folder(out, "old")
    where = Path if point == "rename" else shutil
    inner = getattr(where, point)

    def interrupted(*args: object, **named: object) -> object:
        monkeypatch.setattr(where, point, inner)
        os.kill(os.getpid(), signal.SIGINT)
        return inner(*args, **named)

    monkeypatch.setattr(where, point, interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(out, "new")
    assert atomic.WRITTEN[-1] == out
    assert content(out) == {"a": "new", "b": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_new_files_of_one_name_in_two_folders(tmp_path: Path) -> None:
    outs = [tmp_path / folder / "same.json" for folder in "ab"]
    with atomic.new_files(*outs) as files:
        for text, file in zip("12", files, strict=True):
            file.write_text(text)
    assert [out.read_text() for out in outs] == ["1", "2"]
