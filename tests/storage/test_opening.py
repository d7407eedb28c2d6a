"""safe_join: the path of something below a folder, or a refusal. (Opening itself is tested through FileStorage.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from unchoke.errors import StorageError
from unchoke.storage.opening import safe_join


def test_paths_below_the_folder(tmp_path: Path) -> None:
    assert safe_join(str(tmp_path), ("a", "b")) == str(tmp_path / "a" / "b")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert safe_join(str(tmp_path / "link"), ("a",)) == str(tmp_path / "link" / "a")
    assert safe_join(str(tmp_path), ("link", "a")) == str(tmp_path / "link" / "a")


@pytest.mark.parametrize("parts", [(), ("",), ("..", "a"), (".",), ("a/b",), ("a", "\0"), ("/etc",)])
def test_components_that_are_none(tmp_path: Path, parts: tuple[str, ...]) -> None:
    with pytest.raises(StorageError):
        safe_join(str(tmp_path), parts)


def test_links_that_lead_out(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "out").symlink_to(tmp_path)
    (inside / "self").symlink_to(".")
    (tmp_path / "in-too").mkdir()
    (inside / "sibling").symlink_to("../in-too")
    for name in ("out", "self", "sibling"):
        with pytest.raises(StorageError, match="leads outside"):
            safe_join(str(inside), (name,))
