"""Reading large .torrent files: the collector rests meanwhile, and is as it was afterwards, whatever happened."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fakes import stage
from unchoke.engine import parsing
from unchoke.engine.parsing import NoCollector, parse
from unchoke.errors import MetainfoError
from unchoke.protocol.metainfo import Metainfo


@pytest.fixture(autouse=True)
def collector_on() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_a_torrent_is_read_the_same_small_or_large(monkeypatch: pytest.MonkeyPatch) -> None:
    what = stage.sample(files={"a": 1, "b": 2})
    small = parse(what.torrent)
    monkeypatch.setattr(parsing, "LARGE", 1)
    assert parse(what.torrent) == small == what.metainfo
    assert gc.isenabled()


def test_the_collector_rests_while_a_large_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    real = Metainfo.from_bytes

    def watched(data: bytes, *, layers_required: bool) -> Metainfo:
        seen.append(gc.isenabled())
        return real(data, layers_required=layers_required)

    monkeypatch.setattr(Metainfo, "from_bytes", watched)
    parse(stage.sample().torrent)
    monkeypatch.setattr(parsing, "LARGE", 1)
    parse(stage.sample().torrent)
    assert seen == [True, False]


def test_garbage_leaves_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "LARGE", 1)
    with pytest.raises(MetainfoError):
        parse(b"d4:info")
    assert gc.isenabled()


def test_it_rests_until_the_last_is_done_and_one_that_was_off_stays_off() -> None:
    rest = NoCollector()
    with rest:
        with rest:
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with rest:
        pass
    assert not gc.isenabled()
