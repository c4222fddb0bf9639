"""C is compiled once, kept, and complete; what does not compile says why in a line."""

import ctypes

import pytest

from experiments.machine import compiler
from experiments.machine.compiler import NoCompilerError, compiled

try:
    compiler.find_compiler()
except NoCompilerError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SOURCE = "int seven(void) { return %d; }\n"


def test_a_source_is_compiled_once(tmp_path, monkeypatch):
    made = compiled(SOURCE % 7, tmp_path / "new" / "folder")
    assert ctypes.CDLL(str(made)).seven() == 7
    assert [path.name for path in made.parent.iterdir()] == [made.name]  # and nothing half-written
    other = compiled(SOURCE % 8, made.parent)
    assert other != made

    def fail(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiler, "_compile", fail)
    assert compiled(SOURCE % 7, made.parent) == made


def test_a_source_is_written_where_no_library_is_kept(tmp_path):
    written = []

    def write():
        written.append(SOURCE % 7)
        return written[-1]

    made = compiled(write, tmp_path, "of seven")
    assert ctypes.CDLL(str(made)).seven() == 7
    assert compiled(write, tmp_path, "of seven") == made
    assert len(written) == 1
    assert compiled(write, tmp_path, "of another") != made
    assert len(written) == 2
    assert compiled(write, tmp_path) == compiled(SOURCE % 7, tmp_path)  # by the file itself


def test_a_cpu_that_the_compiler_does_not_know_is_any(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "THIS_CPU", ("-march=of-another-world",))
    assert ctypes.CDLL(str(compiled(SOURCE % 7, tmp_path))).seven() == 7


def test_another_kind_of_cpu_has_a_library_of_its_own(tmp_path, monkeypatch):
    made = compiled(SOURCE % 7, tmp_path)
    monkeypatch.setattr(compiler, "cpu_kind", lambda: "another")
    assert compiled(SOURCE % 7, tmp_path) != made


def test_what_does_not_compile_says_so_in_a_line(tmp_path):
    with pytest.raises(NoCompilerError, match=r"error") as found:
        compiled("int seven(void) { return seven_of_nine; }\n", tmp_path)
    assert "\n" not in str(found.value)
    assert not list(tmp_path.iterdir())


def test_a_library_that_cannot_be_loaded_or_kept_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoCompilerError):
        compiled(SOURCE % 7, tmp_path / "file")
    monkeypatch.setattr(compiler, "_compile", lambda _, source, place: place.write_text(source))
    with pytest.raises(NoCompilerError):
        compiled(SOURCE % 7, tmp_path)


@pytest.mark.parametrize("left", [b"", b"\x7fELF", b"nonsense" * 99])
def test_a_kept_library_that_is_damaged_is_compiled_again(tmp_path, left):
    made = compiled(SOURCE % 7, tmp_path)
    made.unlink()  # it may be loaded here
    made.write_bytes(left)
    assert ctypes.CDLL(str(compiled(SOURCE % 7, tmp_path))).seven() == 7


def test_the_compiler_that_is_asked_for_goes_first(monkeypatch):
    monkeypatch.setenv("CC", "sh -x")
    assert compiler.find_compiler() == ["sh", "-x"]
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiler.find_compiler()[0] != "no-such-compiler"
    monkeypatch.delenv("CC")
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: name)
    assert compiler.find_compiler()[1:] == ["-m", "ziglang", "cc"]
