"""The bytes of PCP, NAT-PMP, SSDP, HTTP and SOAP: known packets, and garbage that gives ProtocolError and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.portmap import http, natpmp, pcp, ssdp, upnp, xml
from unchoke.protocol.portmap.epoch import Epoch
from unchoke.protocol.portmap.http import Place, ReplyReader, place

IGD1 = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
ROOT = "http://192.168.1.1:5000/root.xml"

# ---------------------------------------------------------------------------------------------- NAT-PMP (RFC 6886)


def test_natpmp_requests_are_those_of_the_rfc() -> None:
    assert natpmp.pack_external() == b"\0\0"
    assert natpmp.pack_map(True, 6881, 6882, 7200).hex() == "00020000" + "1ae1" + "1ae2" + "00001c20"
    assert natpmp.pack_map(False, 6881, 0, 0).hex() == "00010000" + "1ae1" + "0000" + "00000000"


def test_natpmp_answers() -> None:
    external = natpmp.unpack_reply(bytes.fromhex("00800000000004d2c6336407"))
    assert (external.opcode, external.epoch, external.external) == (natpmp.EXTERNAL, 1234, "198.51.100.7")
    mapped = natpmp.unpack_reply(bytes.fromhex("0082000000000005 1ae1 1ae2 00000e10"))
    assert (mapped.opcode, mapped.internal_port, mapped.external_port, mapped.lifetime) == (2, 6881, 6882, 3600)
    refused = natpmp.unpack_reply(bytes.fromhex("0081000200000005"))
    assert (refused.result, refused.words) == (
        2,
        "the router refuses: port mapping is switched off there, or not for us",
    )
    assert natpmp.unpack_reply(bytes.fromhex("008000000000000100000000")).external == "", "its line is down"


@pytest.mark.parametrize(
    "data", ["", "00", "0002000000000000", "0280000000000000", "008000000000000a", "0082000000000005" + "1ae1"]
)
def test_natpmp_answers_that_are_none(data: str) -> None:
    with pytest.raises(ProtocolError):
        natpmp.unpack_reply(bytes.fromhex(data))


# ---------------------------------------------------------------------------------------------- PCP (RFC 6887)

NONCE = bytes(range(12))


def test_pcp_requests_are_those_of_the_rfc() -> None:
    packet = pcp.pack_map(NONCE, True, 6881, 6882, "192.168.1.2", 7200)
    assert packet.hex() == (
        "0201000000001c20" + "00000000000000000000ffffc0a80102"
        "000102030405060708090a0b" + "06000000" + "1ae11ae2" + "00000000000000000000ffff00000000"
    )
    six = pcp.pack_map(NONCE, False, 6881, 0, "2001:db8::2", 0)
    assert (len(six), six[36], six[44:]) == (60, 17, bytes(16))
    assert pcp.pack_announce("2001:db8::2").hex() == "0200000000000000" + "20010db8000000000000000000000002"


def pcp_answer(*, result: int = 0, version: int = 2, opcode: int = 0x81, external: str = "c6336407") -> bytes:
    head = struct.pack(">BBBBII12x", version, opcode, 0, result, 3600, 77)
    return head + struct.pack(">12sB3xHH", NONCE, 6, 6881, 6882) + bytes.fromhex("00" * 10 + "ffff" + external)


def test_pcp_answers() -> None:
    reply = pcp.unpack_reply(pcp_answer())
    assert (reply.opcode, reply.lifetime, reply.epoch, reply.nonce) == (pcp.MAP, 3600, 77, NONCE)
    assert (reply.internal_port, reply.external_port, reply.external) == (6881, 6882, "198.51.100.7")
    assert pcp.unpack_reply(pcp_answer(result=12)).words == "another NAT stands between us and the router"
    assert pcp.unpack_reply(pcp_answer(result=200)).words == "the router refuses (PCP result 200)"
    assert pcp.unpack_reply(pcp_answer(external="00000000")).external == ""
    other = pcp.unpack_reply(pcp_answer(version=1, result=1)[:24])
    assert (other.version, other.result, other.nonce) == (1, pcp.UNSUPPORTED_VERSION, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pcp_answer()[:23],
        pcp_answer()[:59],
        pcp_answer(version=1),
        pcp_answer(version=0),
        pcp_answer(opcode=1),
        pcp_answer() + bytes(1100),
    ],
)
def test_pcp_answers_that_are_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        pcp.unpack_reply(data)


@given(data=st.binary(max_size=80) | st.tuples(st.integers(0, 40), st.binary(max_size=60)).map(lambda x: spoilt(*x)))
@settings(max_examples=150)
def test_garbage_is_an_answer_or_a_protocol_error(data: bytes) -> None:
    for unpack in (natpmp.unpack_reply, pcp.unpack_reply, ssdp.unpack_answer):
        try:
            reply = unpack(data)
        except ProtocolError:
            continue
        assert repr(reply)


def spoilt(at: int, data: bytes) -> bytes:
    good = pcp_answer()
    return good[:at] + data + good[at + len(data) :]


# ---------------------------------------------------------------------------------------------- the epoch


def test_an_epoch_that_goes_on_and_ones_that_do_not() -> None:
    epoch = Epoch()
    assert epoch.follows(1000, 0.0)
    assert epoch.follows(1600, 600.0)
    assert epoch.follows(2190, 1200.0), "a clock may be a little slow"
    assert epoch.follows(2189, 1200.0), "packets may overtake each other"
    assert not epoch.follows(10, 1800.0), "restarted"
    assert epoch.follows(20, 1810.0)
    assert not epoch.follows(5000, 1900.0), "we slept"
    assert not epoch.follows(5001, 4000.0), "restarted, a while ago"


# ---------------------------------------------------------------------------------------------- SSDP


def test_a_search_and_its_answer() -> None:
    assert (
        ssdp.pack_search(IGD1)
        == (
            f'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: {IGD1}\r\n\r\n'
        ).encode()
    )
    assert b"HOST: [ff02::c]:1900\r\n" in ssdp.pack_search(IGD1, ssdp.GROUP6)
    found = ssdp.unpack_answer(f"HTTP/1.1 200 OK\r\nst:{IGD1}\r\nLOCATION : {ROOT}\r\nEXT:\r\n\r\n".encode())
    assert (found.location, found.where, found.target) == (ROOT, Place("192.168.1.1", 5000, "/root.xml"), IGD1)
    assert found.is_at("192.168.1.1")
    assert not found.is_at("192.168.1.2")


@pytest.mark.parametrize(
    "head",
    [
        f"NOTIFY * HTTP/1.1\r\nST: {IGD1}\r\nLOCATION: {ROOT}",
        f"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: {ROOT}",
        f"HTTP/1.1 200 OK\r\nST: {IGD1}",
        f"HTTP/1.1 200 OK\r\nST: {IGD1}\r\nLOCATION: https://192.168.1.1/",
        f"HTTP/1.1 200 OK\r\nST: {IGD1}\r\nLOCATION: {ROOT}\r\nX: {'x' * 3000}",
    ],
)
def test_answers_to_a_search_that_are_none(head: str) -> None:
    with pytest.raises(ProtocolError):
        ssdp.unpack_answer(head.encode())


# ---------------------------------------------------------------------------------------------- HTTP


@pytest.mark.parametrize(
    ("url", "base", "wanted"),
    [
        ("http://192.168.1.1/ctl", "", Place("192.168.1.1", 80, "/ctl")),
        ("/ctl/IP?x=1", ROOT, Place("192.168.1.1", 5000, "/ctl/IP?x=1")),
        ("ctl", "http://192.168.1.1:5000/a/b.xml", Place("192.168.1.1", 5000, "/a/ctl")),
        ("http://[fe80::1%eth0]:80", "", Place("fe80::1", 80, "/")),
    ],
)
def test_places(url: str, base: str, wanted: Place) -> None:
    assert place(url, base) == wanted


@pytest.mark.parametrize(
    "url",
    [
        *("", "https://1.2.3.4/", "http:///x", "http://1.2.3.4:0/", "http://1.2.3.4:99999/", "http://1.2.3.4/a b"),
        *("http://1.2.3.4/\r\nX: y", "http://[1.2.3.4/", "http://1.2.3.4/\x7f", "file:///etc/passwd", "x" * 600),
    ],
)
def test_places_that_are_none(url: str) -> None:
    with pytest.raises(ProtocolError):
        place(url)


def test_requests() -> None:
    get = http.pack_request(place(ROOT))
    assert get == b"GET /root.xml HTTP/1.1\r\nHost: 192.168.1.1:5000\r\nConnection: close\r\n\r\n"
    post = http.pack_request(Place("fe80::1", 80, "/c"), headers={"A": "b"}, body=b"xyz")
    assert post == b"POST /c HTTP/1.1\r\nHost: [fe80::1]\r\nA: b\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxyz"


ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no length": b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "too short for its length": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
    "more than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
}


def read(data: bytes, crumb: int) -> ReplyReader:
    reader = ReplyReader()
    for at in range(0, len(data), crumb):
        reader.feed(data[at : at + crumb])
    reader.end()
    return reader


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("crumb", [1, 3, 1000])
def test_answers_whole_and_in_crumbs(data: bytes, crumb: int) -> None:
    reader = read(data, crumb)
    assert (reader.done, reader.status, reader.body) == (True, 200, b"hello")


def test_an_answer_with_a_length_needs_no_end() -> None:
    for name in ("length", "chunks"):
        reader = ReplyReader()
        reader.feed(ANSWERS[name])
        assert reader.done


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(300_000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 100,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + bytes(65536) + b"\r\n" + b"fffff\r\n",
    ],
)
def test_answers_over_http_that_are_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data, 16384)


@given(
    parts=st.lists(
        st.sampled_from([*ANSWERS.values(), b"\r\n", b"0\r\n", b"5\r\n"]) | st.binary(max_size=30), max_size=6
    )
)
@settings(max_examples=100)
def test_http_garbage_in_parts(parts: list[bytes]) -> None:
    reader = ReplyReader(100)
    try:
        for part in parts:
            reader.feed(part)
        reader.end()
    except ProtocolError:
        return
    assert len(reader.body) <= 100
    assert reader.done


# ---------------------------------------------------------------------------------------------- XML


def test_a_tree_without_prefixes() -> None:
    root = xml.parse(
        b'\xef\xbb\xbf \n<?xml version="1.0" encoding="latin-1"?><!-- x --><s:a xmlns:s="u"><b> t </b><b/></s:a>\0'
    )
    assert (root.name, [child.name for child in root.children]) == ("a", ["b", "b"])
    assert (root.word("b"), root.word("c")) == ("t", "")
    assert [element.name for element in root.walk()] == ["a", "b", "b"]


def test_what_sloppy_routers_write_is_read() -> None:
    assert (
        xml.parse("<a>Tom & Jerry &amp; M\u00fcller &#65; &nbsp;</a>".encode()).text
        == "Tom & Jerry & M\u00fcller A &nbsp;"
    )
    assert xml.parse(b"<a>M\xfcller</a>").text == "M\ufffdller"
    assert xml.parse(b"<a><![CDATA[x<y]]></a>").text == "x<y"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"text",
        b"<a>",
        b"<a></b>",
        b"<a>&#0;</a>",
        b"<!DOCTYPE a><a/>",
        b"<!doctype a><a/>",
        b'<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;">]><a>&z;</a>',
        b'<!DOCTYPE a SYSTEM "http://192.168.1.50/x.dtd"><a/>',
        b"<a>" * 33 + b"</a>" * 33,
        b"<r>" + b"<a/>" * 4000 + b"</r>",
        b"<a>" + bytes(300_000) + b"</a>",
        b"<a>" + b"&" * 10_000 + b"</a>",
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'.encode("utf-16"),
    ],
)
def test_xml_that_is_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        xml.parse(data)


#: What a router's answers are made of, whole and broken.
XML_PARTS = st.lists(
    st.sampled_from(
        ["<a>", "</a>", "<service>", "</service>", "<serviceType>", upnp.IP1, "</serviceType>", "<x:controlURL>"]
    )
    | st.sampled_from(
        ["</x:controlURL>", "/ctl", "&lt;", "&", "<![CDATA[", "]]>", "<!--", "-->", "<!", "<?", "?>", "\ud7ff"]
    )
    | st.text(max_size=8),
    max_size=25,
).map(lambda parts: "".join(parts).encode("utf-8", "replace"))


@given(data=XML_PARTS | st.binary(max_size=60), action=st.sampled_from(["a", "GetExternalIPAddress"]))
@settings(max_examples=150)
def test_xml_garbage(data: bytes, action: str) -> None:
    for status in (200, 500):
        try:
            upnp.unpack_answer(status, data, action)
        except ProtocolError:
            assert status == 200
    try:
        services = upnp.unpack_description(b"<root>" + data + b"</root>", ROOT)
    except ProtocolError:
        return
    assert all(service.control.host == "192.168.1.1" for service in services)


# ---------------------------------------------------------------------------------------------- UPnP


def description(*services: tuple[str, str], base: str = "") -> bytes:
    body = "".join(
        f"<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service>" for kind, url in services
    )
    return f"<root>{base and f'<URLBase>{base}</URLBase>'}<device><serviceList>{body}</serviceList></device></root>".encode()


def test_services_of_a_description() -> None:
    found = upnp.unpack_description(
        description(
            ("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/l3"),
            (upnp.PPP1, "ctl/ppp"),
            (upnp.IP1, "http://192.168.1.1:80/ip"),
            (upnp.FIREWALL, ""),
        ),
        ROOT,
    )
    assert [(one.kind, one.control) for one in found] == [
        (upnp.PPP1, Place("192.168.1.1", 5000, "/ctl/ppp")),
        (upnp.IP1, Place("192.168.1.1", 80, "/ip")),
    ]


@pytest.mark.parametrize(
    ("url", "base", "port"),
    [
        ("/ctl", "http://192.168.1.1:99/", 99),
        ("/ctl", "http://10.0.0.1:99/", 5000),
        ("/ctl", "nonsense", 5000),
        ("/ctl", "http://192.168.1.1:99/" + "x" * 600, 5000),
        ("http://10.0.0.1/ctl", "", None),
        ("http://router/ctl", "", None),
    ],
)
def test_calls_go_only_to_the_host_of_the_description(url: str, base: str, port: int | None) -> None:
    found = upnp.unpack_description(description((upnp.IP1, url), base=base), ROOT)
    assert [one.control for one in found] == ([Place("192.168.1.1", port, "/ctl")] if port else [])


def test_a_description_of_ten_thousand_services_is_cut() -> None:
    assert len(upnp.unpack_description(description(*[(upnp.IP1, "/c")] * 900), ROOT)) == upnp.MAX_SERVICES


def test_a_call_and_its_answers() -> None:
    headers, body = upnp.pack_call(upnp.IP1, "AddPortMapping", {"NewRemoteHost": "", "Name": "a<b&c", "Port": 7})
    assert headers["SOAPAction"] == f'"{upnp.IP1}#AddPortMapping"'
    assert b"<NewRemoteHost></NewRemoteHost><Name>a&lt;b&amp;c</Name><Port>7</Port></u:AddPortMapping>" in body
    answer = (
        b"<s:Envelope xmlns:s='x'><s:Body><u:FResponse xmlns:u='y'><A>1</A><B/></u:FResponse></s:Body></s:Envelope>"
    )
    assert upnp.unpack_answer(200, answer, "F") == {"A": "1", "B": ""}
    with pytest.raises(ProtocolError):
        upnp.unpack_answer(200, answer, "G")


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (
            500,
            "<Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></Fault>",
            718,
            "another machine",
        ),
        (500, "<Fault><errorCode>899</errorCode><errorDescription>No\nway</errorDescription></Fault>", 899, "Noway"),
        (500, "<Fault><faultstring>Boo</faultstring><errorCode>x</errorCode></Fault>", 0, "Boo"),
        (404, "gone", 0, "HTTP 404"),
        (500, "<html/>", 0, "HTTP 500"),
    ],
)
def test_refusals(status: int, body: str, code: int, words: str) -> None:
    fault = upnp.unpack_answer(status, body.encode(), "F")
    assert isinstance(fault, upnp.SoapFault)
    assert fault.code == code
    assert words in fault.words


def test_numbers_and_addresses_of_answers() -> None:
    assert upnp.number("51413") == 51413
    for text in ("", "-1", "٣", "1" * 11, "0x1"):
        with pytest.raises(ProtocolError):
            upnp.number(text)
    assert upnp.address("198.51.100.7") == "198.51.100.7"
    assert [upnp.address(text) for text in ("", "0.0.0.0", "none", "1.2.3")] == [""] * 4
