"""Files that appear complete or not at all."""

from pathlib import Path

import pytest

from data_prep.command.atomic import write_json


def test_write_json_is_readable_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"λ": [1]})
    assert path.read_text() == '{\n "\\u03bb": [\n  1\n ]\n}\n'
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    write_json(path, [])
    assert path.read_text() == "[]\n"
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]
