"""Targets: each a function of bytes, good examples of its input, and the one error it may raise.

A new codec of strangers' bytes gets a line in ``TARGETS``. Whatever else comes out of it, or takes long, is a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from unchoke.errors import MagnetError, MetainfoError, ProtocolError, TrackerError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.protocol import extended, lsd, ut_holepunch, ut_metadata, ut_pex
from unchoke.protocol.dht import krpc
from unchoke.protocol.dht.node import DhtNode, NodeSettings
from unchoke.protocol.handshake import Handshake
from unchoke.protocol.magnet import Magnet
from unchoke.protocol.metainfo import Metainfo
from unchoke.protocol.portmap import natpmp, pcp, ssdp, upnp
from unchoke.protocol.tracker.http import parse_announce, parse_scrape
from unchoke.protocol.wire import PeerWire
from unchoke.types import Address, InfoHash, PeerId

HASH = InfoHash(b"h" * 20)


@dataclass(frozen=True, slots=True)
class Target:
    """``read`` raises nothing but ``allowed``, whatever it is given."""

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    allowed: type[Exception]


def _krpc_seeds() -> list[bytes]:
    node, peers = b"n" * 20, [b"\x01\x02\x03\x04\x1a\xe1"]
    compact = node + peers[0]
    return [
        b"d1:ad2:id20:" + node + b"e1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id20:" + node + b"9:info_hash20:" + HASH + b"e1:q9:get_peers1:t2:aa1:y1:qe",
        b"d1:ad2:id20:"
        + node
        + b"9:info_hash20:"
        + HASH
        + b"4:porti6881e5:token4:abcde1:q13:announce_peer1:t2:aa1:y1:qe",
        b"d2:ip6:"
        + peers[0]
        + b"1:rd2:id20:"
        + node
        + b"5:nodes26:"
        + compact
        + b"6:valuesl6:"
        + peers[0]
        + b"ee1:t2:aa1:y1:re",
        b"d1:ad2:id20:" + node + b"6:target20:" + HASH + b"4:wantl2:n42:n6ee1:q9:find_node1:t2:aa1:y1:qe",
        b"d1:ad2:id20:" + node + b"5:token4:abcd1:v5:helloe1:q3:put1:t2:aa1:y1:qe",
        b"d1:eli203e4:oopse1:t2:aa1:y1:ee",
    ]


def _node(data: bytes) -> None:
    """A whole node: also what an answer to the packet would be."""
    node = DhtNode(family=4, settings=NodeSettings(), rng=Random(1), secret=lambda bits: 7, now=0.0)
    node.bootstrap([Address("8.8.8.8", 6881)], 0.0)
    node.datagrams_to_send(0.0)
    for now in (0.1, 0.2):
        node.receive_datagram(data, Address("8.8.8.8", 6881), now)
        node.datagrams_to_send(now)
    node.handle_timer(30.0)
    node.events()


def _wire(data: bytes) -> None:
    """A conversation in three crumbs, on hold for a while (BEP 9)."""
    wire = PeerWire()
    wire.send_handshake(Handshake(HASH, PeerId(b"p" * 20)))
    wire.receive(memoryview(data[:68]))
    if wire.handshake is None:
        return
    wire.hold()
    half = 68 + (len(data) - 68) // 2
    wire.receive(memoryview(data[68:half]))
    wire.begin(TorrentLayout(32768, [FileEntry((), 100_000)]))
    wire.receive(memoryview(data[half:]))


def _wire_seeds() -> list[bytes]:
    hello = Handshake(HASH, PeerId(b"q" * 20)).encode()
    told = b"\0\0\0\x02\x05\xf0" + b"\0\0\0\x05\x04\0\0\0\x01" + b"\0\0\0\x01\x0e" + b"\0\0\0\x01\x01"
    return [hello + told + b"\0\0\0\x04\x14\0de" + b"\0\0\0\x0d\x06" + bytes(8) + b"\0\0\x40\0", hello + bytes(8)]


_SOAP = b"""<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:GetExternalIPAddressResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">
<NewExternalIPAddress>198.51.100.1</NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>"""
_DEVICE = b"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/ctl</controlURL></service>
</serviceList></device></root>"""
_SSDP = (
    b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/root.xml\r\n"
    b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nUSN: uuid:1\r\n\r\n"
)
_INFO = b"d6:lengthi40e4:name1:a12:piece lengthi16384e6:pieces20:" + bytes(20) + b"e"

TARGETS: dict[str, Target] = {
    "krpc": Target(krpc.decode, _krpc_seeds(), ProtocolError),
    "dht-node": Target(_node, _krpc_seeds(), ProtocolError),
    "ut_metadata": Target(
        ut_metadata.decode,
        [b"d8:msg_typei0e5:piecei0ee", b"d8:msg_typei1e5:piecei0e10:total_sizei5eehello", b"d8:msg_typei2e5:piecei0ee"],
        ProtocolError,
    ),
    "ut_pex": Target(
        ut_pex.decode_pex,
        [b"d5:added6:\x01\x02\x03\x04\x1a\xe17:added.f1:\x027:dropped0:e", b"d6:added618:" + bytes(16) + b"\x1a\xe1e"],
        ProtocolError,
    ),
    "ut_holepunch": Target(
        ut_holepunch.decode_holepunch, [b"\0\0\x01\x02\x03\x04\x1a\xe1", b"\x02\x01" + bytes(22)], ProtocolError
    ),
    "lsd": Target(
        lsd.decode_lsd,
        [lsd.LsdAnnounce((HASH,), 6881, "cookie").encode(lsd.GROUP4)],
        ProtocolError,
    ),
    "natpmp": Target(
        natpmp.unpack_reply, [b"\0\x80\0\0\0\0\0\x01\x01\x02\x03\x04", b"\0\x82" + bytes(14)], ProtocolError
    ),
    "pcp": Target(pcp.unpack_reply, [b"\x02\x81\0\0" + bytes(56)], ProtocolError),
    "ssdp": Target(ssdp.unpack_answer, [_SSDP], ProtocolError),
    "upnp-description": Target(
        lambda data: upnp.unpack_description(data, "http://192.168.1.1:5000/root.xml"), [_DEVICE], ProtocolError
    ),
    "upnp-answer": Target(lambda data: upnp.unpack_answer(200, data, "GetExternalIPAddress"), [_SOAP], ProtocolError),
    "extended-handshake": Target(
        extended.decode_extended_handshake, [b"d1:md11:ut_metadatai1ee13:metadata_sizei500e4:reqqi250ee"], ProtocolError
    ),
    "wire": Target(_wire, _wire_seeds(), ProtocolError),
    "tracker-announce": Target(
        parse_announce,
        [b"d8:intervali1800e12:min intervali60e5:peers6:\x01\x02\x03\x04\x1a\xe111:external ip4:\x01\x02\x03\x04e"],
        TrackerError,
    ),
    "tracker-scrape": Target(
        parse_scrape, [b"d5:filesd20:" + HASH + b"d8:completei1e10:downloadedi2e10:incompletei3eeee"], TrackerError
    ),
    "metainfo": Target(Metainfo.from_bytes, [b"d8:announce8:http://t4:info" + _INFO + b"e"], MetainfoError),
    "info-dict": Target(Metainfo.from_info, [_INFO], MetainfoError),
    "magnet": Target(
        lambda data: Magnet.parse(data.decode("utf-8", "replace")),
        [b"magnet:?xt=urn:btih:" + b"a" * 40 + b"&so=1-3&x.pe=[::1]:1&tr=http://t"],
        MagnetError,
    ),
}
