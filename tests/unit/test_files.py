import errno
import hashlib

import pytest

from umbel.errors import OutputError
from umbel.files import sha256_file, whole_file, whole_folder, write_json


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
    ],
)
def test_what_the_disk_refuses_is_named_with_the_remedy(code, text, tmp_path):
    with pytest.raises(OutputError, match=text) as caught, whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError(code, "refused")
    assert str(tmp_path / "a.txt") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_hides_the_cause_is_asked_for_it(tmp_path, monkeypatch):
    from pathlib import Path

    def refuse(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="the disk is full"), whole_file(tmp_path / "a.bin"):
        monkeypatch.setattr(Path, "write_bytes", refuse)
        raise RuntimeError("unexpected pos 2546560 vs 2546452")
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="a real bug"), whole_file(tmp_path / "a.bin"):
        raise RuntimeError("a real bug")
    assert list(tmp_path.iterdir()) == []


def test_other_system_errors_pass_through(tmp_path):
    with pytest.raises(InterruptedError), whole_file(tmp_path / "a.txt"):
        raise InterruptedError


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "d"
    for text in ("first", "second"):
        with whole_folder(target) as temporary:
            (temporary / f"{text}.txt").write_text(text)
    assert [p.name for p in target.iterdir()] == ["second.txt"]
    with pytest.raises(OutputError, match="the disk is full"), whole_folder(target) as temporary:
        (temporary / "third.txt").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in target.iterdir()] == ["second.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_json_and_hashes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})
    text = (tmp_path / "a.json").read_bytes()
    assert text == b'{\n  "a": [\n    1.5\n  ],\n  "b": 1\n}\n'
    assert sha256_file(tmp_path / "a.json") == hashlib.sha256(text).hexdigest()
