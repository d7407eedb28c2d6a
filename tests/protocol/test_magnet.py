"""Magnet links: read, printed, and refused."""

from __future__ import annotations

from base64 import b32encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import MagnetError
from unchoke.protocol.bencode import encode
from unchoke.protocol.magnet import Magnet, is_magnet, maybe_infohash
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import InfoHash

V1 = InfoHash(bytes(range(20)))
V2 = InfoHash(bytes(range(32)))
BTIH = f"xt=urn:btih:{V1.hex()}"
BTMH = f"xt=urn:btmh:1220{V2.hex()}"


def test_a_link_with_everything() -> None:
    link = Magnet.parse(
        f"magnet:?{BTIH}&{BTMH}&dn=My+file%20%C3%A9&xl=1234&tr=http%3A%2F%2Fa%2F%3Fx%3D1&tr=udp://b:1&tr=udp://b:1"
        "&ws=http://w/&xs=http://s/x.torrent&x.pe=host.example:6881&x.pe=1.2.3.4:5&x.pe=[::1]:6&so=0,2,4,6-8&unknown=1"
    )
    assert (link.infohash_v1, link.infohash_v2, link.infohash) == (V1, V2, V1)
    assert (link.name, link.size) == ("My file é", 1234)
    assert link.trackers == ("http://a/?x=1", "udp://b:1")
    assert (link.web_seeds, link.sources) == (("http://w/",), ("http://s/x.torrent",))
    assert link.peers == (("host.example", 6881), ("1.2.3.4", 5), ("::1", 6))
    assert [file for file in range(20) if link.selects(file)] == [0, 2, 4, 6, 7, 8]
    assert Magnet.parse(str(link)) == link


@pytest.mark.parametrize(
    "xt",
    [
        BTIH,
        BTIH.upper().replace("XT=URN:BTIH:", "xt=urn:btih:"),
        f"xt=urn:btih:{b32encode(V1).decode()}",
        f"xt=urn:btih:{b32encode(V1).decode().lower()}",
        f"xt.1=urn:ed2k:31D6CFE0&xt.2=urn:btih:{V1.hex()}",
        f"xt=urn%3Abtih%3A{V1.hex()}",
        f"dn=x&{BTIH}&{BTIH}",
        f"XT=URN:BTIH:{V1.hex()}",
    ],
)
def test_ways_to_write_a_v1_infohash(xt: str) -> None:
    assert Magnet.parse(f"MAGNET:?{xt}").infohash == V1


def test_v2_only() -> None:
    link = Magnet.parse(f"magnet:?{BTMH}")
    assert (link.infohash_v1, link.infohash_v2, link.infohash) == (None, V2, V2[:20])
    assert str(link) == f"magnet:?{BTMH}"


@pytest.mark.parametrize(
    "link",
    [
        "",
        "magnet:",
        "magnet:?",
        "magnet:?dn=x",
        "http://x/?" + BTIH,
        "magnet:?xt=",
        "magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C",
        f"magnet:?{BTIH[:-1]}",
        f"magnet:?{BTIH}0",
        f"magnet:?{BTIH[:-1]}g",
        "magnet:?xt=urn:btih:" + "1" * 32,
        "magnet:?xt=urn:btih:" + "é" * 40,
        "magnet:?xt=urn:btih:" + "a" * 64,
        f"magnet:?xt=urn:btmh:1220{V2.hex()[:-2]}",
        f"magnet:?xt=urn:btmh:1114{V1.hex()}",
        f"magnet:?{BTIH}&xt=urn:btih:{'f' * 40}",
        f"magnet:?{BTMH}&xt=urn:btmh:1220{'f' * 64}",
        f"magnet:?{BTIH}&so=a",
        f"magnet:?{BTIH}&so=5-3",
        f"magnet:?{BTIH}&so=-1",
        f"magnet:?{BTIH}&so=1,,2",
        f"magnet:?{BTIH}&so=0-99999999",
        f"magnet:?{BTIH}&so={'1,' * 10_000}1",
        f"magnet:?{BTIH}&dn={'x' * 300_000}",
    ],
)
def test_links_that_are_refused(link: str) -> None:
    with pytest.raises(MagnetError):
        Magnet.parse(link)


def test_bad_hints_are_passed_over() -> None:
    link = Magnet.parse(f"magnet:?{BTIH}&x.pe=nohost&x.pe=h:0&x.pe=h:65536&x.pe=[::1&x.pe=a:b:1&xl=x&tr=&&=&dn=&so=")
    assert link == Magnet(infohash_v1=V1)


def test_a_huge_selection_takes_no_room() -> None:
    link = Magnet.parse(f"magnet:?{BTIH}&so=0-9999999")
    assert link.select == (range(10_000_000),)


def test_bytes_that_are_no_text_survive() -> None:
    link = Magnet.parse(f"magnet:?{BTIH}&dn=caf%E9")
    assert link.name == "caf\udce9"
    assert str(link).endswith("dn=caf%E9")


def test_from_a_torrent() -> None:
    info: dict[str, Any] = {"length": 5, "name": "a b&c", "piece length": 16384, "pieces": b"x" * 20}
    top: dict[str, Any] = {
        "info": info,
        "announce-list": [["http://a/", "http://b/"], ["http://a/"]],
        "url-list": "http://w/",
    }
    metainfo = Metainfo.from_bytes(encode(top))
    link = Magnet.from_metainfo(metainfo)
    assert (link.infohash, link.size, link.name) == (metainfo.infohash, 5, "a b&c")
    assert (link.trackers, link.web_seeds) == (("http://a/", "http://b/"), ("http://w/",))
    assert str(link) == (
        f"magnet:?xt=urn:btih:{metainfo.infohash}&dn=a%20b%26c&xl=5"
        "&tr=http%3A%2F%2Fa%2F&tr=http%3A%2F%2Fb%2F&ws=http%3A%2F%2Fw%2F"
    )


def test_infohashes_written_alone() -> None:
    assert maybe_infohash(V1.hex().upper()) == maybe_infohash(b32encode(V1).decode()) == V1
    assert maybe_infohash(f" {V2.hex()}\n") == V2
    for text in ("", "x", "g" * 40, "1" * 32, "é" * 40, "a" * 41, "get"):
        assert maybe_infohash(text) is None
    assert is_magnet("Magnet:?x")
    assert not is_magnet("magnet")


urls = st.text(st.characters(codec="utf-8", exclude_characters=" \t\n"), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)


@given(
    st.lists(urls, unique=True, max_size=3).map(tuple),
    urls | st.none(),
    st.lists(
        st.tuples(st.sampled_from(["h.example", "::1", "1.2.3.4"]), st.integers(1, 65535)), unique=True, max_size=3
    ),
    st.integers(0, 10**17) | st.none(),
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 50)), min_size=1, max_size=4) | st.none(),
)
@settings(max_examples=100)
def test_printed_and_read_again(
    trackers: tuple[str, ...],
    name: str | None,
    peers: list[tuple[str, int]],
    size: int | None,
    select: list[tuple[int, int]] | None,
) -> None:
    ranges = None if select is None else tuple(range(start, start + count) for start, count in select)
    link = Magnet(infohash_v1=V1, trackers=trackers, name=name, peers=tuple(peers), size=size, select=ranges)
    assert Magnet.parse(str(link)) == link


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["xt=", "urn:btih:", "&", "so=", "1-", "%", "x.pe=", ":"])).map("".join)
)
@settings(max_examples=200)
def test_garbage_is_a_magnet_error_or_a_link(text: str) -> None:
    for link in (text, "magnet:?" + text, f"magnet:?{BTIH}&{text}"):
        try:
            str(Magnet.parse(link))
        except MagnetError:
            pass
