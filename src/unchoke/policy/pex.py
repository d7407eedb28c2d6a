"""Peer exchange (BEP 11): who is told of which peers, how much of what others tell is believed, and how often.

``Contacts`` is one swarm's: the peers we have met, as bits of integers, so that what each listener has been told is a hundred
bytes and what is new to it one expression. ``PexAllowance`` is one conversation's: how many messages it may send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from unchoke.reach import Reach, reach_of
from unchoke.types import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class PexSettings:
    """Peers that tell each other of peers (BEP 11)."""

    enabled: bool = True
    """Tell, and listen. Never in private torrents (BEP 27)."""

    interval: float = 60.0
    """Seconds between two messages to one peer, at least (BEP 11: a minute). Each waits up to a tenth longer, by chance."""

    first_wait: float = 5.0
    """Seconds until a new peer gets its first message, so that there is something to tell."""

    most_told: int = 50
    """Peers added, and peers dropped, in one message (BEP 11)."""

    most_kept: int = 50
    """Addresses of each family that are taken out of one message of a peer (BEP 11); what is beyond is not looked at."""

    most_recent: int = 25
    """Peers of each family that are still told of after they left on good terms, as long as fewer than so many of that family are
    here (BEP 11, on underpopulated lists): a seed parts with other seeds, and that is whom its peers look for."""

    recent_age: float = 600.0
    """Seconds for which they are."""


def may_tell(address: Address, peer: str) -> bool:
    """May ``address`` pass between us and the peer at host ``peer``, either way?

    A stranger outside has no business with addresses in here: told by one they are an attack on our network, told to one they
    are of no use.
    """
    far = reach_of(address.host)
    return far == Reach.PUBLIC or (far in _TELLABLE and far <= _standing(peer))


#: Addresses that mean the same to everybody in one network; what belongs to a link does not.
_TELLABLE = (Reach.PUBLIC, Reach.PRIVATE, Reach.LOOPBACK)


def _standing(peer: str) -> Reach:
    """How far inside a peer is with whom we are in conversation."""
    far = reach_of(peer)
    return Reach.PUBLIC if far == Reach.NOWHERE else far


# ------------------------------------------------------------------ what we tell


class Contact(NamedTuple):
    """A peer we have met: where it can be dialled, and its flags (BEP 11)."""

    address: Address
    flags: int


class News(NamedTuple):
    """What one listener is told next."""

    added: list[Contact]
    dropped: list[Address]


class Listener:
    """What one peer has been told: bit n stands for the n-th contact. ``told``: counts as here for it. ``had``: is over for it
    unless it comes back."""

    __slots__ = ("had", "told")

    def __init__(self) -> None:
        self.told = 0
        self.had = 0


#: Contacts that have a bit. A listener holds on to those it was told of until it is told that they went, so in a swarm of 500
#: with much coming and going there are more than are here.
MOST_CONTACTS = 2048


class Contacts:
    """One swarm's. ``listeners``: whom we tell."""

    __slots__ = (
        "_bits",
        "_free",
        "_here",
        "_inside",
        "_loopback",
        "_passed",
        "_recent",
        "_slots",
        "listeners",
        "settings",
    )

    def __init__(self, settings: PexSettings) -> None:
        self.settings = settings
        self.listeners: set[Listener] = set()
        self._slots: list[Contact] = []
        self._bits: dict[Address, int] = {}  # address → its slot
        self._free: list[int] = []
        self._recent: dict[Address, tuple[float, int]] = {}  # left on good terms: when, and its flags; the latest last
        self._here = self._passed = 0  # bits of who is here, and of who left a while ago
        self._inside = self._loopback = 0  # bits of those that only listeners of the same network may hear of

    def left(self, contact: Contact, now: float) -> None:
        """A peer went, on good terms: it may still be told of for a while."""
        self._recent.pop(contact.address, None)
        self._recent[contact.address] = now, contact.flags
        if len(self._recent) > 4 * self.settings.most_recent:  # two families, and those that came back
            del self._recent[next(iter(self._recent))]

    def update(self, here: Mapping[Address, int], now: float) -> None:
        """Who is here now: address → flags. At most once a heartbeat: it looks at each."""
        fresh = sum(address not in self._bits for address in here)
        if fresh > len(self._free):
            self._reclaim()
        self._here = self._bits_of(here.items())
        self._passed = self._bits_of(self._passed_on(here, now)) & ~self._here

    def _passed_on(self, here: Mapping[Address, int], now: float) -> list[tuple[Address, int]]:
        """Who left lately, of families of which few are here."""
        oldest = now - self.settings.recent_age
        while self._recent and next(iter(self._recent.values()))[0] < oldest:
            del self._recent[next(iter(self._recent))]
        if not self._recent:
            return []
        six = sum(":" in address.host for address in here)
        room = {False: len(here) - six < self.settings.most_recent, True: six < self.settings.most_recent}
        found = [
            (a, flags) for a, (_, flags) in reversed(self._recent.items()) if room[":" in a.host] and a not in here
        ]
        by_family = ([each for each in found if (":" in each[0].host) is six] for six in (False, True))
        return [each for family in by_family for each in family[: self.settings.most_recent]]

    def _bits_of(self, contacts: Iterable[tuple[Address, int]]) -> int:
        bits = bytearray(MOST_CONTACTS // 8)  # far quicker to set bits in than an integer is
        for address, flags in contacts:
            slot = self._bits.get(address)
            if slot is None:
                slot = self._take(address)
                if slot is None:
                    continue
            if self._slots[slot].flags != flags:
                self._slots[slot] = Contact(address, flags)
            bits[slot >> 3] |= 1 << (slot & 7)
        return int.from_bytes(bits, "little")

    def _take(self, address: Address) -> int | None:
        """A slot for a new contact; None if it is one that nobody may be told of, or if too many are known."""
        far = reach_of(address.host)
        if far not in _TELLABLE or not 0 < address.port < 65536:
            return None
        if self._free:
            slot = self._free.pop()
            self._slots[slot] = Contact(address, 0)
        elif len(self._slots) < MOST_CONTACTS:
            slot = len(self._slots)
            self._slots.append(Contact(address, 0))
        else:
            return None
        self._bits[address] = slot
        if far == Reach.PRIVATE:
            self._inside |= 1 << slot
        elif far == Reach.LOOPBACK:
            self._loopback |= 1 << slot
        return slot

    def _reclaim(self) -> None:
        """Give back the slots of contacts that left and that no listener thinks here."""
        used = self._here | self._passed
        for listener in self.listeners:
            used |= listener.told
        for address, slot in [(a, slot) for a, slot in self._bits.items() if not used >> slot & 1]:
            del self._bits[address]
            self._free.append(slot)
        self._inside &= used
        self._loopback &= used
        for listener in self.listeners:
            listener.had &= used

    def news(self, listener: Listener, peer: str, itself: Address | None) -> News:
        """What ``listener``, the peer at host ``peer`` with listen address ``itself``, is told now; it counts as told."""
        standing = _standing(peer)
        hidden = (self._inside if standing < Reach.PRIVATE else 0) | (
            self._loopback if standing < Reach.LOOPBACK else 0
        )
        if itself is not None and (own := self._bits.get(itself)) is not None:
            hidden |= 1 << own
        told = listener.told
        fresh = (self._here & ~told | self._passed & ~(told | listener.had)) & ~hidden
        added = list(_lowest(fresh, self.settings.most_told))
        dropped = list(_lowest(told & ~self._here, self.settings.most_told))
        for slot in added:
            listener.told |= 1 << slot
        for slot in dropped:
            listener.told &= ~(1 << slot)
            listener.had |= 1 << slot
        listener.had |= listener.told & self._passed
        return News([self._slots[slot] for slot in added], [self._slots[slot].address for slot in dropped])

    def __repr__(self) -> str:
        here, passed = self._here.bit_count(), self._passed.bit_count()
        return f"<Contacts [{here} here | {passed} left lately | {len(self.listeners)} are told]>"


def _lowest(bits: int, most: int) -> Iterator[int]:
    """The numbers of the lowest ``most`` bits that are set."""
    while bits and most:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
        most -= 1


# ------------------------------------------------------------------ what we are told

#: Messages in a row that a peer may send: its first, and one that was late with one that is in time.
_BURST = 3.0
#: Of a peer's interval, what is enough: clocks differ, and lines hold messages up.
_LENIENCY = 0.75
#: Messages beyond that until the conversation ends. Some clients send one a second for a while; each costs us nothing.
_MOST_IGNORED = 60

Hearing = Literal["heard", "ignored", "flood"]


class PexAllowance:
    """How many messages one peer may still send."""

    __slots__ = ("_at", "_left", "_rate", "ignored")

    def __init__(self, interval: float, now: float) -> None:
        self._rate = 1 / (interval * _LENIENCY)
        self._left = _BURST
        self._at = now
        self.ignored = 0

    def hear(self, now: float) -> Hearing:
        """A message came: is it heard, ignored, or one too many of a flood?"""
        self._left = min(self._left + (now - self._at) * self._rate, _BURST)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            self.ignored = 0
            return "heard"
        self.ignored += 1
        return "ignored" if self.ignored <= _MOST_IGNORED else "flood"

    def __repr__(self) -> str:
        return f"<PexAllowance [{self._left:.1f} messages left, {self.ignored} ignored]>"


def believable(addresses: Iterable[Address], peer: str, most: int) -> dict[Address, None]:
    """Of what the peer at host ``peer`` has told, what may be dialled: at most ``most`` of each family, without doubles."""
    kept: dict[Address, None] = {}
    left = [most, most]
    for address in addresses:
        six = ":" in address.host
        if left[six] and address.port and address not in kept and may_tell(address, peer):
            left[six] -= 1
            kept[address] = None
    return kept
