"""One host on the internet is not hammered, however often strangers name it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fakes import stage
from unchoke.engine.dialer import DIALS_COUNTED, MOST_DIALS, Dialer
from unchoke.engine.net.transport import Factory
from unchoke.engine.settings import NetworkSettings
from unchoke.errors import NetworkError
from unchoke.types import Address, InfoHash, PeerId


class Deaf:
    """A network in which nobody answers; and a torrent."""

    infohash = InfoHash(b"h" * 20)
    peer_id = PeerId(b"p" * 20)

    def __init__(self) -> None:
        self.dialed: list[Address] = []
        self.failed: list[str] = []

    async def connect(self, factory: Factory, address: Address, *, bind: str, timeout: float) -> None:
        self.dialed.append(address)
        raise NetworkError("refused")

    def dial_failed(self, address: Address, reason: str) -> None:
        self.failed.append(reason)


@pytest.mark.parametrize(
    ("hosts", "most"), [(["8.8.8.8"], 60), (["2001:4860::1", "2001:4860::2"], 60), (["10.0.0.1"], 200)]
)
async def test_so_many_dials_a_minute(hosts: list[str], most: int) -> None:
    deaf = Deaf()
    dialer = Dialer(
        cast(Any, deaf), NetworkSettings(discovery=False), cast(Any, None), lambda infohash: None, lambda: 1000
    )
    assert MOST_DIALS == 60
    for number in range(200):
        dialer.dial(Address(hosts[number % len(hosts)], 1000 + number), cast(Any, deaf))
    await stage.until(lambda: len(deaf.failed) == 200)
    assert len(deaf.dialed) == most
    assert deaf.failed.count("its host was dialled often enough for now") == 200 - most
    assert dialer.half_open == 0
    dialer.heartbeat(DIALS_COUNTED)
    dialer.dial(Address(hosts[0], 1), cast(Any, deaf))
    await stage.until(lambda: len(deaf.failed) == 201)
    assert deaf.dialed[-1] == Address(hosts[0], 1)
    await dialer.aclose()
