"""Torrents with web seeds in the simulator: servers that serve, lie, break off, dawdle and move; alone and beside peers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakes import webserver
from fakes.webserver import Answer, Asked, WebServer, rightly
from unchoke.engine.settings import DiskSettings, Settings
from unchoke.engine.swarm import Swarm
from unchoke.policy.bandwidth import BandwidthSettings
from unchoke.policy.webseed import WebSeedSettings, WebSeedState
from unchoke.protocol.metainfo import Metainfo
from unchoke.testing import SimSwarm, SlowExecutor, elapsed, make_torrent, run, seeding, swarm, wrong
from unchoke.testing.swarms import Member
from unchoke.testing.torrents import TinyTorrent

SERVER = "10.9.0.1"
URL = f"http://{SERVER}/tiny"
PIECE = 32 * 1024


def with_seeds(torrent: TinyTorrent, *urls: str) -> TinyTorrent:
    return TinyTorrent(Metainfo.from_bytes(torrent.metainfo.edited(web_seeds=urls)), torrent.data)


@asynccontextmanager
async def world_with(
    torrent: TinyTorrent,
    server: WebServer,
    *,
    urls: tuple[str, ...] = (URL,),
    settings: Settings | None = None,
    up: float = 10_000_000.0,
    **how: Any,
) -> AsyncIterator[tuple[SimSwarm, Member]]:
    """One leecher, and a web server at SERVER with a line of ``up``."""
    async with swarm(with_seeds(torrent, *urls), seeds=0, leechers=0, settings=settings) as world:
        host = world.network.host(SERVER, up=up)
        await host.start_server(server.serve, port=80)
        member = await world.add("leech", **how)
        try:
            yield world, member
        finally:
            await world.aclose()
            await server.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def swarm_of(member: Member) -> Swarm:
    assert member.torrent.swarm is not None
    return member.torrent.swarm


def state_of(member: Member, number: int = 0) -> WebSeedState:
    seeds = swarm_of(member).web_seeds
    assert seeds is not None
    return seeds.snapshot()[number]


async def trouble_of(member: Member) -> WebSeedState:
    """Its web seed's state as soon as that is not well."""
    while member.torrent.swarm is None or not state_of(member).error:  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    return state_of(member)


def single(size: int, **how: Any) -> tuple[TinyTorrent, dict[str, bytes]]:
    torrent = make_torrent(size, piece_length=PIECE, **how)
    return torrent, {"/tiny": torrent.data}


def downloaded(
    torrent: TinyTorrent,
    files: Mapping[str, bytes],
    answer: Answer | None = None,
    *,
    urls: tuple[str, ...] = (URL,),
    within: float = 600.0,
    **how: Any,
) -> tuple[WebServer, WebSeedState, float]:
    """Let a leecher with nothing but the web seed finish: (the server, what is said of it in the end, seconds)."""

    async def scenario() -> tuple[WebServer, WebSeedState, float]:
        server = WebServer(files, answer)
        async with world_with(torrent, server, urls=urls, **how) as (world, member):
            await world.finished(within=within)
            took = elapsed()
            assert member.data == torrent.data
            return server, state_of(member), took

    return run(scenario)


# ---------------------------------------------------------------------- alone


@pytest.mark.parametrize("size", [1, PIECE, 3 * PIECE + 16385, 100 * PIECE + 7], ids=str)
def test_a_torrent_without_peers_completes_over_few_connections(size: int) -> None:
    torrent, files = single(size)
    server, state, _ = downloaded(torrent, files)
    assert state.downloaded == size
    assert not state.wasted
    assert not state.error
    assert sum(end - start for start, end in server.ranges) == size  # nothing is asked for twice
    assert server.most_open <= 4
    assert {one.headers["accept-encoding"] for one in server.asked} == {"identity"}


def test_a_run_is_one_request_and_connections_are_used_again() -> None:
    torrent, files = single(40 * 1024 * 1024 // 8)
    server, _, _ = downloaded(
        torrent, files, settings=Settings(webseed=WebSeedSettings(connections=1, run=1024 * 1024))
    )
    assert len(server.asked) == 5
    assert server.connections == 1


def test_files_of_a_folder_have_addresses_below_it_and_padding_is_never_asked_for() -> None:
    names = {"a b/ü%.bin": 50_000, ".pad/15536": 15_536, "z": 70_000}
    made = make_torrent(135_536).data
    torrent = padded(names, made[:50_000] + bytes(15_536) + made[65_536:])
    files = {
        "/seed/tiny/a%20b/%C3%BC%25.bin": torrent.data[:50_000],
        "/seed/tiny/z": torrent.data[65_536:],
    }
    for url in (f"http://{SERVER}/seed", f"http://{SERVER}/seed/"):
        server, state, _ = downloaded(torrent, files, urls=(url,))
        assert {one.path for one in server.asked} == set(files)
        assert state.downloaded == 120_000


def padded(files: dict[str, int], data: bytes) -> TinyTorrent:
    from hashlib import sha1

    from unchoke.protocol.bencode import Encodable, encode

    entries: list[Encodable] = [
        {b"length": length, b"path": path.split("/"), **({b"attr": b"p"} if path.startswith(".pad") else {})}
        for path, length in files.items()
    ]
    hashes = b"".join(sha1(data[at : at + PIECE]).digest() for at in range(0, len(data), PIECE))
    info: dict[bytes, Encodable] = {b"files": entries, b"name": "tiny", b"piece length": PIECE, b"pieces": hashes}
    return TinyTorrent(Metainfo.from_info(encode(info)), data)


def test_hundreds_of_small_files_come_each_with_one_request() -> None:
    names = {f"{number:03}": 1000 + number for number in range(300)}
    torrent = make_torrent(files=names, piece_length=PIECE)
    files = {f"/{path}": data for path, data in torrent.files().items()}
    server, _, _ = downloaded(torrent, files, urls=(f"http://{SERVER}/",))
    assert len(server.asked) <= 300 + 16  # a file that two runs share is asked for in two parts


def test_only_what_is_selected_is_fetched() -> None:
    async def scenario() -> None:
        torrent = make_torrent(files={"a": 4 * PIECE, "b": 4 * PIECE, "c": 4 * PIECE}, piece_length=PIECE)
        server = WebServer({f"/{path}": data for path, data in torrent.files().items()})
        async with world_with(torrent, server, urls=(f"http://{SERVER}/",), files=[1]) as (world, member):
            await world.finished(within=60)
            assert {one.path for one in server.asked} == {"/tiny/b"}
            await member.torrent.select([1, 2])
            while member.torrent.state != "seeding" or len(server.asked) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            assert {one.path for one in server.asked} == {"/tiny/b", "/tiny/c"}

    run(scenario)


@pytest.mark.parametrize("answer", [webserver.in_chunks, webserver.at_most(50_000)], ids=["chunks", "short answers"])
def test_other_ways_to_answer_rightly(answer: Answer) -> None:
    torrent, files = single(20 * PIECE + 5)
    _, state, _ = downloaded(torrent, files, answer)
    assert not state.wasted
    assert not state.error


def test_a_server_without_ranges_is_asked_once_for_everything() -> None:
    torrent, files = single(700 * PIECE)
    server, state, _ = downloaded(torrent, files, webserver.without_ranges)
    assert len(server.asked) == 1
    assert state.downloaded == torrent.size
    assert not state.wasted


def test_a_server_without_ranges_finishes_what_was_begun_by_reading_from_the_start() -> None:
    async def scenario() -> None:
        torrent, files = single(40 * PIECE)
        server = WebServer(files, webserver.without_ranges)
        async with world_with(torrent, server, up=400_000) as (world, member):
            while member.snapshot().pieces_done < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await member.stop()
            had = member.downloaded
            await member.start()
            await world.finished(within=600)
            state = state_of(member)
            assert len(server.asked) == 2
            assert had - PIECE <= state.wasted <= had + PIECE  # what comes before is thrown away
            assert member.data == torrent.data

    run(scenario)


# ---------------------------------------------------------------------- trouble


def test_an_answer_that_breaks_off_is_gone_on_with_at_once_where_it_was() -> None:
    torrent, files = single(200 * PIECE)
    settings = Settings(webseed=WebSeedSettings(connections=1))
    server, state, took = downloaded(torrent, files, webserver.breaks_after(2_000_000), settings=settings)
    assert took < 5
    assert state.error == ""
    assert state.downloaded - torrent.size < len(server.asked) * 16384  # of a block that was not complete


def test_a_server_that_gives_little_before_it_breaks_off_is_asked_less_and_less_often() -> None:
    torrent, files = single(20 * PIECE)
    server, _, _ = downloaded(torrent, files, webserver.breaks_after(100_000), within=86_400)
    times = [one.at for one in server.asked]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] >= 10
    assert gaps[1] >= 20
    assert gaps[2] >= 40


BAD: dict[str, tuple[Answer, str]] = {
    "no range told": (webserver.says("206 Partial Content", b"x" * 9), "does not say which bytes"),
    "another range": (
        webserver.says("206 Partial Content", b"x" * 9, Content_Range="bytes 5-13/65536"),
        "sends other bytes",
    ),
    "a longer range": (
        webserver.says("206 Partial Content", b"x" * 9, Content_Range="bytes 0-65535/65536"),
        "sends other bytes",
    ),
    "another size": (
        webserver.says("206 Partial Content", b"x" * 9, Content_Range="bytes 0-8/9"),
        "a file of 9 bytes in place of 65536",
    ),
    "another file": (webserver.says("200 OK", b"<html>"), "a file of 6 bytes in place of 65536"),
    "an impossible range": (
        webserver.says("206 Partial Content", b"x" * 9, Content_Range="bytes 9-0/65536"),
        "bytes that cannot be",
    ),
    "parts": (
        webserver.says("206 Partial Content", b"x" * 9, Content_Type="multipart/byteranges; boundary=x"),
        "does not say which bytes",
    ),
    "gzip": (
        webserver.says("206 Partial Content", b"x" * 9, Content_Range="bytes 0-8/65536", Content_Encoding="gzip"),
        "an encoding not asked for",
    ),
    "404": (webserver.says("404 Not Found"), "HTTP 404 Not Found"),
    "410": (webserver.says("410 Gone"), "HTTP 410 Gone"),
    "416": (webserver.says("416 Range Not Satisfiable"), "shorter file"),
    "403": (webserver.says("403 Forbidden"), "HTTP 403 Forbidden"),
    "500": (webserver.says("500 Internal Server Error"), "HTTP 500"),
    "799": (webserver.says("799 Odd"), "HTTP 799"),
    "two lengths": (webserver.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), "how long"),
    "length and chunks": (
        webserver.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "form not known",
    ),
    "no http": (webserver.raw(b"220 ready for mail\r\n"), "does not answer in HTTP"),
    "nothing": (webserver.raw(b""), "closed the connection without an answer"),
    "an endless head": (webserver.raw(b"HTTP/1.1 206 OK\r\n" + b"X: y\r\n" * 20_000), "does not answer in HTTP"),
    "interim answers": (webserver.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "interim answers without end"),
    "a chunk without size": (
        webserver.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        "chunk without a size",
    ),
    "a short body": (
        webserver.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "sends nothing of what it was asked for",
    ),
    "a redirect to nowhere": (webserver.says("302 Found", Location="http://[::1"), "which is no address"),
    "a redirect to a file": (webserver.says("302 Found", Location="file:///etc/passwd"), "is no http"),
    "a loop of redirects": (webserver.says("302 Found", Location="/tiny"), "redirects more than 5 times"),
    "a redirect to another machine": (
        webserver.says("302 Found", Location="http://127.0.0.1/tiny"),
        "redirects into the local network",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_a_server_may_say_wrong_costs_a_wait_and_leaves_words(what: str) -> None:
    async def scenario() -> None:
        answer, words = BAD[what]
        torrent, files = single(2 * PIECE)
        server = WebServer(files, answer)
        async with world_with(torrent, server) as (world, member):
            state = await trouble_of(member)
            assert words in state.error
            assert state.status == "waiting"
            assert state.next_try > asyncio.get_running_loop().time()
            assert swarm_of(member).intake.rate.total == 0
            before = len(server.asked)
            assert before <= 6
            await asyncio.sleep(5)
            assert len(server.asked) == before
            server.answer = rightly
            await world.finished(within=2 * 3600)
            assert state_of(member).error == ""

    run(scenario)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://10.9.0.1/tiny", "no http or https address"),
        ("http://169.254.169.254/latest", "no address for a tracker or web seed"),
        ("http://10.9.0.1/tiny?key=1", "no query"),
        ("http:///tiny", "no"),
    ],
)
def test_addresses_that_are_never_asked(url: str, words: str) -> None:
    async def scenario() -> None:
        torrent, files = single(2 * PIECE)
        server = WebServer(files)
        async with world_with(torrent, server, urls=(url,)) as (_, member):
            await asyncio.sleep(5)
            state = state_of(member)
            assert state.status == "out"
            assert words in state.error
            assert not server.asked

    run(scenario)


def test_nobody_there_is_said_and_tried_again() -> None:
    async def scenario() -> None:
        torrent, files = single(2 * PIECE)
        server = WebServer(files)
        async with world_with(torrent, server, urls=(f"http://{SERVER}:81/tiny",)) as (world, member):
            await asyncio.sleep(5)
            assert "cannot connect to 10.9.0.1: Connection refused" in state_of(member).error
            await world.network.hosts[SERVER].start_server(server.serve, port=81)
            await world.finished(within=60)

    run(scenario)


def test_retry_after_is_heeded() -> None:
    async def scenario() -> None:
        torrent, files = single(2 * PIECE)
        server = WebServer(files, webserver.says("503 Service Unavailable", Retry_After="300"))
        async with world_with(torrent, server) as (world, member):
            await asyncio.sleep(5)
            assert "HTTP 503 Service Unavailable" in state_of(member).error
            server.answer = rightly
            await world.finished(within=3600)
            assert 300 <= server.asked[1].at - server.asked[0].at <= 302

    run(scenario)


def test_a_redirect_is_followed_on_the_same_machine_and_to_the_internet() -> None:
    async def moved(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if asked.path == "/tiny":
            return await webserver.says("302 Found", Location="/really/here")(server, asked, writer)
        if asked.path == "/really/here":
            return await webserver.says("307 Found", Location="http://93.184.216.34/x")(server, asked, writer)
        return await rightly(server, asked, writer)

    async def scenario() -> None:
        torrent, _ = single(20 * PIECE)
        server = WebServer({"/x": torrent.data}, moved)
        async with world_with(torrent, server) as (world, _):
            await world.network.host("93.184.216.34").start_server(server.serve, port=80)
            await world.finished(within=60)
            assert server.asked[2].headers["host"] == "93.184.216.34"

    run(scenario)


@pytest.mark.parametrize(("count", "seconds"), [(1, 1.0), (100, 1.0)])
def test_a_server_that_drips_is_given_up(count: int, seconds: float) -> None:
    async def scenario() -> None:
        torrent, files = single(4 * PIECE)
        server = WebServer(files, webserver.drips(count, seconds))
        async with world_with(torrent, server) as (_, member):
            state = await trouble_of(member)
            assert 30 <= elapsed() <= 33
            assert "hardly anything within 30 s" in state.error
            assert not member.session.disk.reserved  # type: ignore[union-attr]

    run(scenario)


def test_a_server_that_never_answers_is_given_up() -> None:
    async def silent(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(1e6)
        return False

    async def scenario() -> None:
        torrent, files = single(4 * PIECE)
        async with world_with(torrent, WebServer(files, silent)) as (_, member):
            state = await trouble_of(member)
            assert 30 <= elapsed() <= 33
            assert "no answer within 30 s" in state.error

    run(scenario)


def test_a_file_that_is_missing_costs_only_itself() -> None:
    async def scenario() -> None:
        torrent = make_torrent(files=dict.fromkeys("abcd", 4 * PIECE), piece_length=PIECE)
        files = {f"/{path}": data for path, data in torrent.files().items()}
        del files["/tiny/b"]
        server = WebServer(files)
        async with world_with(torrent, server, urls=(f"http://{SERVER}/",)) as (world, member):
            await asyncio.sleep(20)
            assert member.snapshot().pieces_done == 12
            assert [one.path for one in server.asked].count("/tiny/b") == 1
            assert "404" in state_of(member).error
            server.files["/tiny/b"] = torrent.files()["tiny/b"]
            await world.finished(within=3700)
            assert elapsed() >= 3600

    run(scenario)


def test_wrong_data_costs_the_piece_and_a_few_wrong_pieces_the_server() -> None:
    async def scenario() -> None:
        torrent, _ = single(40 * PIECE)
        data = bytearray(torrent.data)
        for piece in (7, 20, 30):
            data[piece * PIECE + 5] ^= 1
        server = WebServer({"/tiny": bytes(data)})
        async with world_with(torrent, server, settings=Settings(webseed=WebSeedSettings(connections=1))) as (
            world,
            member,
        ):
            await asyncio.sleep(30)
            state = state_of(member)
            assert state.status == "out"
            assert "wrong data for 3 pieces" in state.error
            assert all(sum(start <= piece * PIECE < end for start, end in server.ranges) == 1 for piece in (7, 20, 30))
            assert member.snapshot().corrupt == 3 * PIECE
            await world.add("seed", complete=True)
            await world.finished([member], within=600)  # from a peer, who is blamed for nothing
            assert member.data == torrent.data

    run(scenario)


def test_one_wrong_piece_comes_from_another_web_seed() -> None:
    async def scenario() -> None:
        torrent, _ = single(20 * PIECE)
        data = bytearray(torrent.data)
        data[7 * PIECE] ^= 1
        server = WebServer({"/tiny": bytes(data), "/other": torrent.data})
        async with world_with(torrent, server, urls=(URL, f"http://{SERVER}/other")) as (world, member):
            await world.finished(within=60)
            assert member.data == torrent.data
            assert state_of(member).status != "out"

    run(scenario)


# ---------------------------------------------------------------------- bounds


def test_the_limits_hold_for_web_seeds() -> None:
    torrent, files = single(40 * PIECE)
    _, _, took = downloaded(torrent, files, settings=Settings(bandwidth=BandwidthSettings(down=100_000)))
    assert took == pytest.approx(torrent.size / 100_000, rel=0.15)


def test_a_limit_is_shared_with_peers() -> None:
    async def scenario() -> None:
        torrent, files = single(60 * PIECE)
        server = WebServer(files)
        settings = Settings(bandwidth=BandwidthSettings(down=100_000), webseed=WebSeedSettings(connections=1))
        async with world_with(torrent, server, settings=settings) as (world, member):
            for name in ("one", "two"):
                await world.add(name, complete=True, settings=Settings())
            await world.finished([member], within=600)
            assert elapsed() == pytest.approx(torrent.size / 100_000, rel=0.2)
            given = state_of(member).downloaded
            assert torrent.size * 0.15 < given < torrent.size * 0.7

    run(scenario)


def test_memory_is_bounded_by_the_budget_and_reading_waits_for_a_slow_disk() -> None:
    async def scenario() -> None:
        torrent, files = single(60 * PIECE)
        budget = 4 * PIECE
        server = WebServer(files)
        settings = Settings(disk=DiskSettings(write_buffer=budget, threads=1))
        slow = SlowExecutor(0.5)
        async with world_with(torrent, server, settings=settings, executor=slow) as (world, member):
            await world.finished(within=600)
            assert member.data == torrent.data
            assert elapsed() >= 25  # the disk's pace
            assert state_of(member).wasted == 0
            assert member.session.disk.peak <= budget + 4 * 1024 * 1024  # type: ignore[union-attr]  # slabs of spilled ones

    run(scenario)


def test_pieces_larger_than_the_budget_go_to_the_disk_block_by_block() -> None:
    async def scenario() -> None:
        torrent = make_torrent(3 * 1024 * 1024 + 5, piece_length=1024 * 1024)
        settings = Settings(disk=DiskSettings(write_buffer=512 * 1024, threads=1))
        server = WebServer({"/tiny": torrent.data})
        async with world_with(torrent, server, settings=settings) as (world, member):
            await world.finished(within=600)
            assert member.data == torrent.data

    run(scenario)


def test_torrents_share_the_connections_to_one_server() -> None:
    async def scenario() -> None:
        torrent, files = single(400 * PIECE)
        other = with_seeds(
            make_torrent(400 * PIECE, piece_length=PIECE, seed=5, name="other"), f"http://{SERVER}/other"
        )
        server = WebServer({**files, "/other": other.data})
        async with world_with(torrent, server, up=2_000_000) as (world, member):
            assert member.session is not None
            second = await member.session.add(other.metainfo)
            await world.finished(within=600)
            await second.done()
            assert server.most_open <= 4

    run(scenario)


# ---------------------------------------------------------------------- stopping, and peers


def test_what_came_before_a_stop_is_not_asked_for_again() -> None:
    async def scenario() -> None:
        torrent, files = single(64 * PIECE)
        server = WebServer(files)
        async with world_with(torrent, server, up=200_000) as (world, member):
            await asyncio.sleep(5.05)
            await member.stop()
            before = server.asked.copy()
            assert member.data != torrent.data
            await member.start()
            await world.finished(within=60)
            again = sum(one.end - one.start for one in server.asked[len(before) :])
            assert again < torrent.size * 0.7
            assert member.data == torrent.data

    run(scenario)


def test_a_slow_web_seed_does_not_hold_up_the_end() -> None:
    async def scenario() -> None:
        torrent, files = single(128 * PIECE)
        server = WebServer(files)
        async with world_with(torrent, server, up=5_000) as (world, member):
            await world.add("seed", complete=True, up=400_000)
            await world.finished([member], within=3600)
            assert elapsed() < torrent.size / 400_000 * 1.5 + 2
            assert member.data == torrent.data
            assert member.snapshot().wasted < 20 * 16384

    run(scenario)


def test_slow_peers_do_not_hold_up_the_end() -> None:
    async def scenario() -> None:
        torrent, files = single(128 * PIECE)
        server = WebServer(files)
        async with world_with(torrent, server, up=1_000_000) as (world, member):
            await world.add("seed", complete=True, up=3_000)
            await world.finished([member], within=3600)
            assert elapsed() < torrent.size / 1_000_000 * 1.5 + 5
            assert member.data == torrent.data

    run(scenario)


def test_beside_a_peer_that_lies_the_web_seed_is_not_blamed() -> None:
    async def scenario() -> None:
        torrent, files = single(40 * PIECE)
        server = WebServer(files)
        async with world_with(torrent, server, up=200_000) as (world, member):
            await world.fake(seeding(world.torrent, alter=wrong), up=200_000)
            await world.finished([member], within=600)
            assert member.data == torrent.data
            assert state_of(member).error == ""

    run(scenario)


def test_a_torrent_removed_in_the_midst_leaves_nothing() -> None:
    async def scenario() -> None:
        torrent, files = single(64 * PIECE)
        async with world_with(torrent, WebServer(files), up=100_000) as (_, member):
            await asyncio.sleep(3)
            assert member.session is not None
            await member.session.remove(member.torrent)
            assert member.session.disk.reserved == 0

    run(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_among_honest_peers_and_servers_nothing_is_ever_wrong(seed: int) -> None:
    """Whoever writes over another's block, or is taken for the giver of what he did not give, shows here."""

    async def scenario() -> None:
        torrent, _ = single(96 * PIECE, seed=seed)
        server = WebServer({"/tiny": torrent.data, "/other": torrent.data}, webserver.breaks_after(700_001))
        how = Settings(
            webseed=WebSeedSettings(retry=1.0, connections=2), disk=DiskSettings(write_buffer=8 * PIECE, threads=1)
        )
        urls = (URL, f"http://{SERVER}/other")
        async with world_with(torrent, server, urls=urls, settings=how, up=300_000 + 100_000 * seed) as (world, member):
            for number in range(3):
                await world.add(f"seed{number}", complete=True, up=40_000 * (number + 1), settings=Settings())
            await world.finished([member], within=600)
            assert member.data == torrent.data
            assert member.snapshot().corrupt == 0
            assert member.snapshot().wasted < torrent.size / 4

    run(scenario, seed=seed)
