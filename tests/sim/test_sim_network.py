"""Simulated lines: time, shares, loss, partitions; and transports that keep asyncio's contract to the letter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import NetworkError, PortTakenError
from unchoke.testing import SimHost, SimNetwork, elapsed, run
from unchoke.testing.datagrams import SimDatagrams
from unchoke.testing.pipes import LEAST_BUFFER, MOST_BUFFER, WINDOW
from unchoke.testing.streams import SimTransport
from unchoke.types import Address

T = TypeVar("T")


class Listener(asyncio.Protocol):
    """Notes what it hears and when."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.data = bytearray()
        self.times: list[float] = []
        self.transport: SimTransport
        self.lost = asyncio.Event()
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, SimTransport)
        self.transport = transport
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.times.append(elapsed())

    def eof_received(self) -> bool:
        self.log.append("eof")
        return False

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append("lost")
        self.error = exc
        self.lost.set()


class HalfOpen(Listener):
    def eof_received(self) -> bool:
        self.log.append("eof")
        return True


class Buffered(asyncio.BufferedProtocol):
    """Receives into a small buffer of its own."""

    def __init__(self, size: int = 1000) -> None:
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.updates: list[int] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self.updates.append(nbytes)


def world(scenario: Callable[[SimNetwork], Coroutine[Any, Any, T]], seed: int = 0, **how: Any) -> T:
    """Run a scenario in a fresh network, and see that no stream is left half closed by the network itself."""

    async def main() -> T:
        return await scenario(SimNetwork(**how))

    return run(main, seed=seed)


async def connect(
    here: SimHost,
    there: SimHost,
    ours: Callable[[], asyncio.BaseProtocol] = Listener,
    theirs: Callable[[], asyncio.BaseProtocol] = Listener,
) -> tuple[Any, Any]:
    """A stream between two hosts: the protocols of both ends."""
    made: list[asyncio.BaseProtocol] = []

    def note(factory: Callable[[], asyncio.BaseProtocol]) -> Callable[[], asyncio.BaseProtocol]:
        def make() -> asyncio.BaseProtocol:
            made.append(factory())
            return made[-1]

        return make

    port = await there.listen(note(theirs))
    await here.connect(note(ours), Address(there.address, port))
    await there.aclose()
    return made[1], made[0]


def pair(network: SimNetwork, **line: float) -> tuple[SimHost, SimHost]:
    """A sender with this line, and a receiver without limits."""
    return network.host("10.0.0.1", **line), network.host("10.0.0.2")  # type: ignore[arg-type]


# ---------------------------------------------------------------------- dialling


def test_a_dial_takes_a_round_trip() -> None:
    async def scenario(network: SimNetwork) -> tuple[float, list[Address]]:
        a, b = pair(network)
        ours, theirs = await connect(a, b)
        ends = [Address(*ours.transport.get_extra_info(name)) for name in ("sockname", "peername")]
        assert [Address(*theirs.transport.get_extra_info(name)) for name in ("peername", "sockname")] == ends
        return elapsed(), ends

    when, ends = world(scenario, latency=0.1)
    assert when == pytest.approx(0.2)
    assert [end.host for end in ends] == ["10.0.0.1", "10.0.0.2"]


def test_dials_that_fail_say_why() -> None:
    async def scenario(network: SimNetwork) -> list[tuple[str, float]]:
        a, b = pair(network)
        hidden = network.host("10.0.0.3", reachable=False)
        port = await hidden.listen(Listener)
        said = []
        for address in (Address(b.address, 5), Address("10.9.9.9", 5), Address(hidden.address, port)):
            since = elapsed()
            with pytest.raises(NetworkError) as caught:
                await a.connect(Listener, address, timeout=5.0)
            said.append((str(caught.value), round(elapsed() - since, 6)))
        with pytest.raises(NetworkError, match="assign"):
            await a.connect(Listener, Address(b.address, 5), bind="10.0.0.77")
        return said

    assert world(scenario, latency=0.1) == [
        ("Connection refused", 0.2),
        ("no answer within 5 s", 5.0),
        ("no answer within 5 s", 5.0),
    ]


def test_who_is_behind_a_nat_can_dial() -> None:
    async def scenario(network: SimNetwork) -> bytes:
        a, b = network.host("10.0.0.1", reachable=False), network.host("10.0.0.2")
        ours, theirs = await connect(a, b)
        theirs.transport.write(b"hello")
        await asyncio.sleep(1)
        return bytes(ours.data)

    assert world(scenario) == b"hello"


def test_ports_are_one_programs_each() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, _ = pair(network)
        assert await a.listen(Listener, port=80) == 80
        with pytest.raises(PortTakenError):
            await a.listen(Listener, port=80)
        with pytest.raises(NetworkError, match="cannot listen on"):
            await a.listen(Listener, port=81, bind="10.0.0.2")
        first, second = await a.listen(Listener), await a.listen(Listener)
        assert first != second
        await a.aclose()
        assert await a.listen(Listener, port=80, bind="0.0.0.0") == 80
        with pytest.raises(ValueError):
            network.host(a.address)

    world(scenario)


def test_a_dial_that_is_cancelled_leaves_nothing_at_the_other_side() -> None:
    async def scenario(network: SimNetwork) -> list[str]:
        a, b = pair(network)
        accepted = Listener()
        port = await b.listen(lambda: accepted)
        dial = asyncio.create_task(a.connect(Listener, Address(b.address, port)))
        await asyncio.sleep(0.15)  # the far side has accepted; its answer is on the way
        dial.cancel()
        await accepted.lost.wait()
        assert not a.transports
        assert not b.transports
        return accepted.log

    assert world(scenario, latency=0.1) == ["made", "eof", "lost"]


# ---------------------------------------------------------------------- lines


def test_bytes_need_latency_and_the_time_of_the_line() -> None:
    async def scenario(network: SimNetwork) -> tuple[float, float]:
        a, b = pair(network, up=100_000.0)
        ours, theirs = await connect(a, b)
        since = elapsed()
        ours.transport.write(bytes(50_000))
        await asyncio.sleep(10)
        return theirs.times[0] - since, theirs.times[-1] - since

    first, last = world(scenario, latency=0.1)
    assert first == pytest.approx(0.12)  # a turn of the line is 20 ms long
    assert last == pytest.approx(0.6)


def test_streams_share_an_uplink_evenly_and_use_all_of_it() -> None:
    async def scenario(network: SimNetwork) -> tuple[list[int], float]:
        a = network.host("10.0.0.1", up=1_000_000)
        ends = [await connect(a, network.host(f"10.0.1.{number}")) for number in range(5)]
        since = elapsed()
        for ours, _ in ends:
            ours.transport.write(bytes(1_000_000))
        await asyncio.sleep(2.5)
        halfway = [len(theirs.data) for _, theirs in ends]
        await asyncio.sleep(10)
        return halfway, max(theirs.times[-1] for _, theirs in ends) - since

    halfway, last = world(scenario, latency=0.01)
    assert max(halfway) - min(halfway) <= 64 * 1024
    assert sum(halfway) == pytest.approx(2_500_000, rel=0.05)
    assert last == pytest.approx(5.01, rel=0.01)


def test_a_silent_stream_is_not_held_up_by_a_busy_one() -> None:
    async def scenario(network: SimNetwork) -> float:
        a = network.host("10.0.0.1", up=100_000)
        busy, _ = await connect(a, network.host("10.0.0.2"))
        quiet, listener = await connect(a, network.host("10.0.0.3"))
        busy.transport.write(bytes(1_000_000))
        await asyncio.sleep(1)
        since = elapsed()
        quiet.transport.write(b"ping")
        await asyncio.sleep(5)
        return float(listener.times[0]) - since

    assert world(scenario, latency=0.01) < 0.1


def test_a_downlink_is_as_fast_as_it_is() -> None:
    async def scenario(network: SimNetwork) -> float:
        target = network.host("10.0.0.9", down=100_000)
        ends = [await connect(network.host(f"10.0.1.{number}"), target) for number in range(3)]
        since = elapsed()
        for ours, _ in ends:
            ours.transport.write(bytes(100_000))
        await asyncio.sleep(20)
        assert sum(len(theirs.data) for _, theirs in ends) == 300_000
        return float(max(theirs.times[-1] for _, theirs in ends)) - since

    assert world(scenario, latency=0.01) == pytest.approx(3.01)


def test_a_line_can_change_its_speed() -> None:
    async def scenario(network: SimNetwork) -> float:
        a, b = pair(network, up=10_000.0)
        ours, theirs = await connect(a, b)
        since = elapsed()
        ours.transport.write(bytes(110_000))
        await asyncio.sleep(1)
        a.uplink.rate = 100_000
        await asyncio.sleep(20)
        return float(theirs.times[-1]) - since

    assert world(scenario, latency=0.01) == pytest.approx(2.0, rel=0.1)


def test_loss_costs_a_stream_time_and_no_byte() -> None:
    async def scenario(network: SimNetwork) -> tuple[bytes, float]:
        a, b = pair(network, up=1_000_000.0)
        ours, theirs = await connect(a, b)
        since = elapsed()
        ours.transport.write(bytes(range(256)) * 400)
        ours.transport.close()
        await theirs.lost.wait()
        return bytes(theirs.data), elapsed() - since

    clean, quick = world(scenario, seed=3)
    lossy, slow = world(scenario, seed=3, loss=0.2, jitter=0.01)
    assert clean == lossy == bytes(range(256)) * 400
    assert slow > quick + 0.2


def test_a_partition_holds_streams_loses_packets_and_leaves_others_alone() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network)
        c = network.host("10.0.0.3")
        ours, theirs = await connect(a, b)
        other, elsewhere = await connect(a, c)
        network.partition([a], [b])
        ours.transport.write(b"held")
        other.transport.write(b"free")
        ours.transport.close()
        await asyncio.sleep(500)
        assert theirs.log == ["made"]
        assert not theirs.data
        assert elsewhere.data == b"free"
        with pytest.raises(NetworkError, match="no answer"):
            await b.connect(Listener, Address(a.address, 1), timeout=3.0)
        network.heal()
        await theirs.lost.wait()
        assert theirs.data == b"held"
        assert theirs.error is None

    world(scenario)


def test_a_partition_of_one_side_cuts_it_off_from_everybody() -> None:
    async def scenario(network: SimNetwork) -> list[bytes]:
        a, b = pair(network)
        c = network.host("10.0.0.3")
        to_b, at_b = await connect(a, b)
        to_c, at_c = await connect(b, c)
        network.partition([a])
        to_b.transport.write(b"no")
        to_c.transport.write(b"yes")
        await asyncio.sleep(1)
        before = [bytes(at_b.data), bytes(at_c.data)]
        network.partition([b], [c])  # another one in its place
        await asyncio.sleep(1)
        return [*before, bytes(at_b.data)]

    assert world(scenario) == [b"", b"yes", b"no"]


def test_a_dial_gets_through_when_a_partition_ends_in_time() -> None:
    async def scenario(network: SimNetwork) -> float:
        a, b = pair(network)
        port = await b.listen(Listener)
        network.partition([a], [b])
        asyncio.get_running_loop().call_later(2.0, network.heal)
        await a.connect(Listener, Address(b.address, port), timeout=10.0)
        return elapsed()

    assert 2.0 < world(scenario) < 5.0


# ---------------------------------------------------------------------- transports


def test_writing_pauses_when_the_line_is_slow_and_resumes_when_it_has_drained() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network, up=100_000.0)
        ours, _ = await connect(a, b)
        transport = ours.transport
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        transport.write(bytes(LEAST_BUFFER))
        assert transport.get_write_buffer_size() < 4000  # all but what the first turn made room for
        transport.write(bytes(100_000))
        assert 95_000 < transport.get_write_buffer_size() <= 100_000
        assert ours.log == ["made", "pause"]
        await asyncio.sleep(0.2)
        assert ours.log == ["made", "pause"]
        await asyncio.sleep(2)
        assert ours.log == ["made", "pause", "resume"]
        assert transport.get_write_buffer_size() == 0

    world(scenario)


def test_limits_of_zero_pause_as_soon_as_anything_is_unsent() -> None:
    async def scenario(network: SimNetwork) -> list[str]:
        a, b = pair(network, up=100_000.0)
        ours, _ = await connect(a, b)
        ours.transport.set_write_buffer_limits(high=0, low=0)
        ours.transport.writelines([b"a", bytes(LEAST_BUFFER), b"b" * 5000])
        await asyncio.sleep(5)
        with pytest.raises(ValueError):
            ours.transport.set_write_buffer_limits(high=1, low=2)
        return list(ours.log)

    assert world(scenario) == ["made", "pause", "resume"]


def test_what_the_socket_has_not_taken_is_kept_by_reference() -> None:
    """Whoever uses a buffer again while ``get_write_buffer_size`` is not 0 is found out; afterwards it is his own."""

    async def scenario(network: SimNetwork) -> tuple[bytes, bytes]:
        a, b = pair(network, up=100_000.0)
        ours, theirs = await connect(a, b)
        sent = []
        for patient in (False, True):
            theirs.data.clear()
            buffer = bytearray(b"A" * 4 * LEAST_BUFFER)
            ours.transport.writelines([memoryview(buffer)])
            while patient and ours.transport.get_write_buffer_size():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            buffer[:] = b"B" * len(buffer)
            await asyncio.sleep(20)
            sent.append(bytes(theirs.data))
        return sent[0], sent[1]

    hasty, patient = world(scenario)
    assert b"B" in hasty
    assert patient == b"A" * 4 * LEAST_BUFFER


def test_a_reader_that_pauses_holds_up_the_writer() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network)
        ours, theirs = await connect(a, b)
        theirs.transport.pause_reading()
        size = 2 * (WINDOW + MOST_BUFFER)
        ours.transport.write(bytes(size))
        await asyncio.sleep(60)
        assert not theirs.data
        assert ours.transport.get_write_buffer_size() == size - WINDOW - MOST_BUFFER
        assert not theirs.transport.is_reading()
        theirs.transport.resume_reading()
        await asyncio.sleep(60)
        assert len(theirs.data) == size
        assert ours.log == ["made", "pause", "resume"]

    world(scenario)


def test_a_buffered_protocol_is_filled_buffer_by_buffer_and_may_pause_in_between() -> None:
    class Pausing(Buffered):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network)
        ours, theirs = await connect(a, b, theirs=lambda: Pausing(1000))
        ours.transport.write(bytes(range(250)) * 10)
        for count in (1, 2, 3):
            await asyncio.sleep(1)
            assert len(theirs.updates) == count
            theirs.transport.resume_reading()
        assert theirs.updates == [1000, 1000, 500]
        assert theirs.data == bytes(range(250)) * 10

    world(scenario)


def test_close_sends_what_is_unsent_and_then_ends_both_sides() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network, up=100_000.0)
        ours, theirs = await connect(a, b)
        ours.transport.write(bytes(500_000))
        ours.transport.close()
        ours.transport.write(b"too late")
        assert ours.transport.is_closing()
        await theirs.lost.wait()
        assert len(theirs.data) == 500_000
        assert (ours.log, theirs.log) == (["made", "pause", "resume", "lost"], ["made", "eof", "lost"])
        assert (ours.error, theirs.error) == (None, None)

    world(scenario)


def test_abort_loses_what_the_socket_has_not_taken() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network, up=100_000.0)
        ours, theirs = await connect(a, b)
        ours.transport.write(bytes(500_000))
        ours.transport.abort()
        assert ours.log == ["made", "pause"]  # the loop tells, not the call
        await ours.lost.wait()
        await theirs.lost.wait()
        assert 0 < len(theirs.data) < 100_000

    world(scenario)


def test_ending_with_unread_data_breaks_the_stream_off() -> None:
    async def scenario(network: SimNetwork) -> Exception | None:
        a, b = pair(network)
        ours, theirs = await connect(a, b)
        theirs.transport.pause_reading()
        ours.transport.write(b"never read")
        await asyncio.sleep(1)
        theirs.transport.close()
        await ours.lost.wait()
        error: Exception | None = ours.error
        return error

    assert isinstance(world(scenario), ConnectionResetError)


def test_writing_to_who_is_gone_breaks_the_stream_off() -> None:
    async def scenario(network: SimNetwork) -> Exception | None:
        a, b = pair(network)
        ours, theirs = await connect(a, b, ours=HalfOpen)
        theirs.transport.close()
        await asyncio.sleep(1)
        assert ours.log == ["made", "eof"]
        ours.transport.write(b"anybody there?")
        await ours.lost.wait()
        error: Exception | None = ours.error
        return error

    assert isinstance(world(scenario), ConnectionResetError)


def test_a_half_closed_stream_goes_on_in_the_other_direction() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network)
        ours, theirs = await connect(a, b, theirs=HalfOpen)
        assert ours.transport.can_write_eof()
        ours.transport.write(b"question")
        ours.transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            ours.transport.write(b"more")
        await asyncio.sleep(1)
        assert theirs.log == ["made", "eof"]
        theirs.transport.write(b"answer")
        theirs.transport.close()
        await ours.lost.wait()
        assert (theirs.data, ours.data) == (b"question", b"answer")

    world(scenario)


def test_an_error_in_a_protocol_ends_its_connection_and_is_reported() -> None:
    class Broken(Listener):
        def data_received(self, data: bytes) -> None:
            raise LookupError("a bug")

    async def scenario(network: SimNetwork) -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        a, b = pair(network)
        ours, theirs = await connect(a, b, theirs=Broken)
        ours.transport.write(b"hello")
        await theirs.lost.wait()
        assert isinstance(theirs.error, LookupError)
        assert [context["exception"] for context in reported] == [theirs.error]
        await ours.lost.wait()

    world(scenario)


def test_streams_of_the_library_work_over_it() -> None:
    async def scenario(network: SimNetwork) -> bytes:
        a, b = pair(network, up=50_000.0)

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()
            await writer.wait_closed()

        port = await b.start_server(echo)
        reader, writer = await a.open_connection(Address(b.address, port))
        writer.write(bytes(300_000))
        await writer.drain()
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    assert world(scenario) == bytes(300_000)


@settings(max_examples=25, deadline=None)
@given(
    writes=st.lists(st.integers(0, 150_000), max_size=8),
    up=st.sampled_from([20_000.0, 1e6, float("inf")]),
    loss=st.sampled_from([0.0, 0.1]),
    buffer=st.sampled_from([777, 65536]),
)
def test_every_byte_arrives_once_and_in_order(writes: list[int], up: float, loss: float, buffer: int) -> None:
    async def scenario(network: SimNetwork) -> tuple[bytes, bytes]:
        a, b = pair(network, up=up)
        ours, theirs = await connect(a, b, theirs=lambda: Buffered(buffer))
        sent = b""
        for number, size in enumerate(writes):
            data = bytes([number + 1]) * size
            sent += data
            ours.transport.writelines([data[: size // 3], memoryview(data)[size // 3 :]])
        await asyncio.sleep(600)
        assert ours.transport.get_write_buffer_size() == 0
        return sent, bytes(theirs.data)

    sent, received = world(scenario, loss=loss, jitter=0.02)
    assert sent == received


# ---------------------------------------------------------------------- datagrams


class Packets(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: list[tuple[bytes, tuple[str, int]]] = []
        self.errors: list[Exception] = []
        self.lost = False

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


async def socket_of(host: SimHost, port: int = 0) -> tuple[SimDatagrams, Packets]:
    protocol = Packets()
    transport = await host.open_datagrams(lambda: protocol, port=port)
    assert isinstance(transport, SimDatagrams)
    return transport, protocol


def test_packets_arrive_whole_with_their_senders_address() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network)
        (ours, _), (theirs, heard) = await socket_of(a, 6881), await socket_of(b, 6969)
        for size in (0, 5, 65507):
            ours.sendto(b"x" * size, (b.address, 6969))
        await asyncio.sleep(1)
        assert sorted((len(data), addr) for data, addr in heard.got) == [
            (size, ("10.0.0.1", 6881)) for size in (0, 5, 65507)
        ]
        assert theirs.get_extra_info("sockname") == ("10.0.0.2", 6969)

    world(scenario)


def test_packets_that_nobody_can_take_vanish() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network)
        ours, noted = await socket_of(a)
        _, heard = await socket_of(b, 1)
        ours.sendto(b"no such host", ("10.9.9.9", 1))
        ours.sendto(b"no such port", (b.address, 2))
        network.partition([a], [b])
        ours.sendto(b"no way", (b.address, 1))
        await asyncio.sleep(1)
        network.heal()
        ours.sendto(bytes(70_000), (b.address, 1))
        with pytest.raises(OverflowError):
            ours.sendto(b"x", (b.address, 70_000))
        with pytest.raises(ValueError):
            ours.sendto(b"x")
        await asyncio.sleep(1)
        assert heard.got == []
        assert [error.args for error in noted.errors] == [(90, "Message too long")]

    world(scenario)


def test_the_share_of_lost_packets_is_as_it_was_asked_for() -> None:
    async def scenario(network: SimNetwork) -> int:
        a, b = pair(network)
        ours, _ = await socket_of(a)
        _, heard = await socket_of(b, 1)
        for _ in range(1000):
            ours.sendto(b"x", (b.address, 1))
        await asyncio.sleep(1)
        return len(heard.got)

    assert 650 < world(scenario, loss=0.3) < 750


def test_lines_drop_the_packets_they_cannot_keep() -> None:
    async def scenario(network: SimNetwork) -> tuple[int, int]:
        slow, fast = network.host("10.0.0.1", up=100_000), network.host("10.0.0.2")
        narrow, wide = network.host("10.0.0.3", down=100_000), network.host("10.0.0.4")
        sockets = [await socket_of(host, 1) for host in (slow, fast, narrow, wide)]
        for _ in range(1000):
            sockets[0][0].sendto(bytes(1000), (wide.address, 1))
            sockets[1][0].sendto(bytes(1000), (narrow.address, 1))
        await asyncio.sleep(60)
        return len(sockets[3][1].got), len(sockets[2][1].got)

    through_uplink, through_downlink = world(scenario)
    assert 200 < through_uplink < 300  # 256 KiB wait, one at a time leaves
    assert 90 < through_downlink < 270


def test_a_nat_lets_in_only_those_that_were_written_to() -> None:
    async def scenario(network: SimNetwork) -> list[bytes]:
        inside, friend, stranger = (
            network.host("10.0.0.1", reachable=False),
            network.host("10.0.0.2"),
            network.host("10.0.0.3"),
        )
        ours, heard = await socket_of(inside, 1)
        ours.sendto(b"hello", (friend.address, 9))
        for host in (friend, stranger):
            (await socket_of(host, 9))[0].sendto(host.address.encode(), (inside.address, 1))
        await asyncio.sleep(1)
        return [data for data, _ in heard.got]

    assert world(scenario) == [b"10.0.0.2"]


def test_a_taken_port_for_packets_is_replaced_and_a_closed_socket_is_silent() -> None:
    async def scenario(network: SimNetwork) -> None:
        a, b = pair(network)
        (first, _), (second, heard) = await socket_of(a, 7), await socket_of(a, 7)
        assert first.get_extra_info("sockname")[1] == 7 != second.get_extra_info("sockname")[1]
        with pytest.raises(OSError, match="assign"):
            await a.open_datagrams(Packets, host="::")
        port = second.get_extra_info("sockname")[1]
        second.close()
        second.sendto(b"not sent", (b.address, 1))
        assert second.is_closing()
        await asyncio.sleep(0)
        assert heard.lost
        replaced, _ = await socket_of(a, port)
        assert replaced.get_extra_info("sockname")[1] == port

    world(scenario)


def test_the_same_seed_gives_the_same_world() -> None:
    async def scenario(network: SimNetwork) -> list[float]:
        a, b = pair(network, up=100_000.0)
        ours, theirs = await connect(a, b)
        ours.transport.write(bytes(200_000))
        await asyncio.sleep(60)
        return list(theirs.times)

    lossy: dict[str, Any] = {"loss": 0.1, "jitter": 0.05}
    assert world(scenario, seed=5, **lossy) == world(scenario, seed=5, **lossy)
    assert world(scenario, seed=5, **lossy) != world(scenario, seed=6, **lossy)
