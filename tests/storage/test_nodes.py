"""Saved nodes: what is written comes back; what is damaged, foreign or huge is as good as nothing, and never an error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchoke.errors import StorageError
from unchoke.storage.nodes import MAX_NODES, SavedNodes, load_nodes, save_nodes
from unchoke.types import Address

ID = bytes(range(20))
V4 = SavedNodes(node_id=ID, external="198.51.100.7", nodes=(Address("203.0.113.5", 6881), Address("127.0.0.2", 1)))
V6 = SavedNodes(node_id=ID[::-1], nodes=(Address("2001:db8::5", 65535),))


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "folder" / "nodes")
    save_nodes(path, {4: V4, 6: V6})
    assert load_nodes(path) == {4: V4, 6: V6}


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert load_nodes(str(tmp_path / "nodes")) == {}
    assert load_nodes(str(tmp_path)) == {}
    assert load_nodes("a\0b") == {}


def test_the_last_to_save_wins_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "nodes")
    save_nodes(path, {4: V4})
    save_nodes(path, {6: V6})
    assert load_nodes(path) == {4: SavedNodes(), 6: V6}
    assert os.listdir(tmp_path) == ["nodes"]


def test_a_folder_that_cannot_be_written_is_a_storage_error_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    save_nodes(str(path), {4: V4})
    with pytest.raises(StorageError) as caught:
        save_nodes(str(path / "below"), {4: V6})
    assert str(path) in str(caught.value)
    assert load_nodes(str(path))[4] == V4


def test_no_more_than_so_many_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "nodes")
    many = tuple(Address(f"10.0.{number >> 8}.{number & 255}", 1) for number in range(MAX_NODES + 100))
    save_nodes(path, {4: SavedNodes(nodes=many)})
    assert load_nodes(path)[4].nodes == many[:MAX_NODES]


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    path.write_text('{"version": 1, "ipv4": {"nodes": [' + '"203.0.113.5:6881", ' * 100_000 + '"1.2.3.4:5"]}}')
    assert load_nodes(str(path)) == {}


@pytest.mark.parametrize(
    "entry",
    ["203.0.113.5", "203.0.113.5:0", "203.0.113.5:65536", "203.0.113.5:٣", "203.0.113.5:-1", "host:1", ":1", "[::1]:5", 7, None],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_costs_only_itself(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "nodes"
    content = {"version": 1, "ipv4": {"id": ID.hex(), "nodes": [entry, "192.0.2.1:80", "192.0.2.1:80"]}}
    path.write_text(json.dumps(content))
    assert load_nodes(str(path))[4] == SavedNodes(node_id=ID, nodes=(Address("192.0.2.1", 80),))


@pytest.mark.parametrize("wrong", ["zz", "00", 5, None, [], "é"])
def test_an_id_or_address_that_is_none_is_not_there(tmp_path: Path, wrong: object) -> None:
    path = tmp_path / "nodes"
    path.write_text(json.dumps({"version": 1, "ipv6": {"id": wrong, "external": wrong, "nodes": wrong}}))
    assert load_nodes(str(path))[6] == SavedNodes()


@given(st.binary(max_size=200) | st.from_regex(rb'\{"version": 1, "ipv[46]": [\[\]{}":a-f0-9, ]{0,60}\}'))
def test_garbage_is_never_an_error(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        found = load_nodes(file.name)
    assert all(len(one.node_id) in (0, 20) and one.nodes == () for one in found.values())
