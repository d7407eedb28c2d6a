"""HttpTrackers: what trackers answer, what becomes of it, and which hosts a torrent's tracker may lead us to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.web import Answer, free_port, hangs, never_ends, says, serving
from unchoke.engine.net.guard import Guard
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.http_trackers import HttpTrackers
from unchoke.engine.net.resolver import family_of
from unchoke.errors import NetworkError, TrackerError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.tracker.models import AnnounceReply, AnnounceRequest
from unchoke.types import Address, InfoHash, PeerId

pytestmark = pytest.mark.usefixtures("no_leaks")

REQUEST = AnnounceRequest(infohash=InfoHash(b"\xff\x00 &=%+#/?hijklmnopq"), peer_id=PeerId(b"p" * 20), port=1)

#: Host names to literal addresses.
Names = dict[str, list[str]]


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


GOOD = b"d8:intervali60e5:peers6:\x7f\0\0\1\0\x09e"


async def test_an_announce_over_http(client: HttpClient) -> None:
    heads = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await says(GOOD)(head, writer)

    async with serving(answer) as url:
        reply = await HttpTrackers(client).announce(f"{url}/announce?own=%2F", REQUEST)
    assert reply == AnnounceReply(interval=60, peers=(Address("127.0.0.1", 9),))
    assert heads[0].startswith("GET /announce?own=%2F&info_hash=%FF%00%20%26%3D%25%2B%23%2F%3Fhijklmnopq&peer_id=")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (hangs, "no complete answer"),
        (never_ends, "longer than"),
        (says(b"oops", "500 Internal Server Error"), "HTTP 500 Internal Server Error"),
        (says(b"<html><body>hello"), "web page"),
        (says(b"<html>", "404 Not Found"), "HTTP 404 Not Found"),
        (says(b"d14:failure reason8:too manye"), "the tracker says: too many"),
        (says(b"d14:failure reason8:too manye", "403 Forbidden"), "the tracker says: too many"),
        (says(b"d8:intervali60e5:peers7:1234567e"), "odd length"),
        (says(b""), "empty"),
    ],
)
async def test_hostile_trackers_are_tracker_errors(client: HttpClient, answer: Answer, words: str) -> None:
    trackers = HttpTrackers(client, AnnounceSettings(http_timeout=0.3, max_reply=100_000))
    async with serving(answer) as url:
        with pytest.raises(TrackerError, match=words):
            await trackers.announce(f"{url}/announce", REQUEST)
    assert "0 hosts" in repr(trackers)


async def test_a_dead_host_is_a_tracker_error(client: HttpClient) -> None:
    with pytest.raises(TrackerError, match="Connection refused"):
        await HttpTrackers(client).announce(f"http://127.0.0.1:{free_port()}/announce", REQUEST)
    with pytest.raises(TrackerError):
        await HttpTrackers(client).announce("http://", REQUEST)


async def test_a_scrape_over_http(client: HttpClient) -> None:
    body = b"d5:filesd20:" + REQUEST.infohash + b"d8:completei3eeee"
    async with serving(says(body)) as url:
        reply = await HttpTrackers(client).scrape(f"{url}/announce", [REQUEST.infohash])
        assert reply.torrents[REQUEST.infohash].seeds == 3
        with pytest.raises(TrackerError, match="no scrape"):
            await HttpTrackers(client).scrape(f"{url}/x", [REQUEST.infohash])


async def test_a_bounded_number_of_announces_to_one_host(client: HttpClient) -> None:
    now = most = 0

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        await says(GOOD)(head, writer)

    async with serving(answer) as url:
        trackers = HttpTrackers(client, AnnounceSettings(max_at_once=2))
        await asyncio.gather(*(trackers.announce(f"{url}/announce", REQUEST) for _ in range(8)))
    assert most <= 2


async def test_a_client_bound_to_an_address_uses_its_family() -> None:
    client = HttpClient(bind="127.0.0.2")
    seen = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await says(GOOD)(head, writer)

    try:
        async with serving(answer) as url:
            await HttpTrackers(client).announce(f"{url}/announce", REQUEST)
            with pytest.raises(TrackerError):
                await HttpTrackers(client).announce("http://[::1]:1/announce", REQUEST)
    finally:
        await client.aclose()
    assert seen == ["127.0.0.2"]


async def test_our_address_as_the_tracker_sees_it_is_passed_on(client: HttpClient) -> None:
    told: list[tuple[str, str]] = []
    body = b"d11:external ip4:\xc0\0\2\7" + GOOD[1:]
    async with serving(says(body)) as url:
        trackers = HttpTrackers(client, told=lambda address, host: told.append((address, host)))
        await trackers.announce(f"{url}/announce", REQUEST)
    assert told == [("192.0.2.7", "127.0.0.1")]


async def test_both_families_of_a_name_are_announced_to(client: HttpClient, names: Names) -> None:
    seen: list[str] = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await says(GOOD)(head, writer)

    async with serving(answer) as url:
        port = int(url.rpartition(":")[2])
        async with serving(answer, "::1", port):
            names["localhost"] = ["127.0.0.1", "::1"]
            await HttpTrackers(client).announce(f"http://localhost:{port}/announce", REQUEST)
    assert sorted(seen) == ["127.0.0.1", "::1"]


COMPACT = b"".join(number.to_bytes(4, "big") + b"\x1a\xe1" for number in range(1 << 24, (1 << 24) + 170_000))


@pytest.mark.parametrize(
    ("count", "peers"),
    [(2000, b"%d:" % len(COMPACT) + COMPACT), (0, b"l" + b"d2:ip9:127.0.0.14:porti0ee" * 30_000 + b"e")],
    ids=["compact", "dictionaries"],
)
async def test_a_megabyte_of_peers_is_cut_down(client: HttpClient, count: int, peers: bytes) -> None:
    async with serving(says(b"d8:intervali60e5:peers" + peers + b"e")) as url:
        reply = await HttpTrackers(client).announce(f"{url}/announce", REQUEST)
    assert len(reply.peers) == count


async def test_a_certificate_must_be_one_that_this_machine_trusts(client: HttpClient, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed(tmp_path / "own.pem"))
    async with serving(says(GOOD, "200 OK", "Content-Length: 27"), tls=tls) as url:
        with pytest.raises(TrackerError, match=r"no secure connection to 127.0.0.1:\d+: self.signed") as raised:
            await HttpTrackers(client).announce(f"{url}/announce", REQUEST)
        assert raised.value.kind == "tls"
        careless = HttpTrackers(client, AnnounceSettings(verify_tls=False))
        assert (await careless.announce(f"{url}/announce", REQUEST)).interval == 60
        with pytest.raises(TrackerError, match="no secure connection"):  # now that it is known to be read plainly
            await HttpTrackers(client).announce(f"{url}/announce", REQUEST)


def self_signed(path: Path) -> Path:
    """Key and certificate of ``127.0.0.1`` in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


async def test_a_failure_has_a_class_that_programs_can_tell(client: HttpClient, names: Names) -> None:
    kinds = {}
    async with (
        serving(says(b"", "500 Oops")) as broken,
        serving(says(b"<html>")) as html,
        serving(hangs) as silent,
        serving(says(b"d14:failure reason2:noe")) as refusing,
    ):
        urls_of = {
            "http": f"{broken}/announce",
            "garbage": f"{html}/announce",
            "timeout": f"{silent}/announce",
            "refused": f"{refusing}/announce",
            "connect": f"http://127.0.0.1:{free_port()}/announce",
            "dns": "http://gone.example/announce",
            "guard": "http://127.0.0.1/shutdown",
            "unsupported": "http://tracker.example:99999/announce",
        }
        for name, url in urls_of.items():
            with pytest.raises(TrackerError) as raised:
                await HttpTrackers(client, AnnounceSettings(http_timeout=0.3)).announce(url, REQUEST)
            kinds[name] = raised.value.kind
    assert kinds == {name: name for name in urls_of}


# ---- what a torrent may not reach ----


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names and their addresses; no other is looked up by anybody."""
    known: Names = {}

    async def look_up(host: str, port: int, *, family: int = 0, type: int = 0) -> list[object]:
        await asyncio.sleep(0)
        addresses = [one for one in known.get(host, []) if family in (0, family_of(one))]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(family_of(one), type, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", staticmethod(look_up))
    return known


async def unasked(head: str, writer: asyncio.StreamWriter) -> None:
    raise AssertionError("it was reached")


async def test_a_name_that_leads_to_this_machine_is_not_asked(client: HttpClient, names: Names) -> None:
    async with serving(unasked) as url:
        port = url.rpartition(":")[2]
        names["tracker.example"] = ["127.0.0.1", "::1", "10.0.0.1", "::ffff:127.0.0.1"]
        with pytest.raises(TrackerError, match=r"tracker\.example leads into the local network") as raised:
            await HttpTrackers(client).announce(f"http://tracker.example:{port}/announce", REQUEST)
        assert raised.value.kind == "guard"
        with pytest.raises(TrackerError, match="leads into the local network"):
            await HttpTrackers(client).scrape(f"http://tracker.example:{port}/announce", [REQUEST.infohash])


async def test_it_is_asked_if_the_user_named_it_or_allows_such_hosts(client: HttpClient, names: Names) -> None:
    async with serving(says(GOOD)) as url:
        port = url.rpartition(":")[2]
        names["tracker.example"] = ["127.0.0.1"]
        theirs = f"http://tracker.example:{port}/announce"
        assert await HttpTrackers(client).announce(theirs, REQUEST, given=True)
        assert await HttpTrackers(client).announce(f"{url}/any/path/at/all", REQUEST, given=True)
        assert await HttpTrackers(client, guard=Guard(allow_private=True)).announce(theirs, REQUEST)
        with pytest.raises(TrackerError, match="leads into"):  # no connection that was made for the user is used
            await HttpTrackers(client).announce(theirs, REQUEST)


async def test_a_name_that_changes_its_mind_gains_nothing(client: HttpClient, names: Names) -> None:
    """The first look-up gives an address on the internet, every later one this machine's."""
    async with serving(unasked) as url:
        port = int(url.rpartition(":")[2])
        names["tracker.example"] = ["192.0.2.1"]
        await client.names.resolve("tracker.example", port)
        names["tracker.example"] = ["127.0.0.1"]
        with pytest.raises(NetworkError, match="leads into the local network"):
            await client.fetch(f"http://tracker.example:{port}/announce", guard=Guard(), family=socket.AF_INET)


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.2:{port}/announce", "http://localhost:{port}/announce", "http://inner.example:{port}/announce"],
)
@pytest.mark.parametrize("form", [1, 2], ids=["regular", "lenient"])
async def test_a_redirect_does_not_lead_inwards(client: HttpClient, names: Names, location: str, form: int) -> None:
    """``here`` stands for a host on the internet: its address alone is allowed."""

    class Lax(Guard):
        def allows(self, address: str, *, plain: bool) -> bool:
            return address == "127.0.0.1" or super().allows(address, plain=plain)

    names.update({"tracker.example": ["127.0.0.1"], "inner.example": ["127.0.0.2"], "localhost": ["127.0.0.2"]})
    async with serving(unasked, "127.0.0.2") as inside:
        to = location.format(port=inside.rpartition(":")[2])
        answer = says(b"", "302 Found", f"Location: {to}", *["Content-Length: 0"] * (form - 1))
        async with serving(answer) as url:
            outside = f"http://tracker.example:{url.rpartition(':')[2]}/announce"
            with pytest.raises(NetworkError, match="local network"):
                await client.fetch(outside, guard=Lax(), lenient=True)
