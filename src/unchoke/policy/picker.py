"""PiecePicker: which blocks to ask of a peer next (BEP 3: rarest first, random first pieces, strict piece order, endgame).

The order of thought, for one peer that has room for ``count`` more requests:

1. go on with the piece this peer is working through;
2. else an open piece that nobody works through, the fullest first;
3. else a new piece, if there is memory for one. One that failed its hash comes first, from others than those who gave it;
   then high priority, then normal, then low. Inside each: any at random while we have fewer than ``random_first`` (so that
   we soon have something to give), the first one when sequential, else one of the rarest, chosen evenly;
4. else share an open piece with the peers that work on it;
5. else the last piece that a run has claimed and not reached;
6. else, when no block anywhere is free (endgame): a block that others were asked for, a few at a time.

Who fetches many pieces in one request (a web seed, BEP 19) takes a *run* of them: adjacent ones that nobody has begun. They are
claimed, and opened one by one as their bytes come.

How rare a piece is, is kept, never recomputed. Peers that have everything are one integer. For the others the counts of
all pieces are kept *bit-sliced*: plane *k* is a bitfield holding bit *k* of every piece's count. Then a whole bitfield
is added or taken away by a ripple of a few ANDs and XORs (0.03 ms for 500,000 pieces among 50 peers, where a loop over
the counts takes 10 ms: docs/decisions/0003), one ``have`` touches one bit in a plane or two, and "the rarest among these
candidates" is a walk down the planes.

It knows peers only as keys and bitfields, blocks as (piece, begin, length). It keeps what it decided (which block was asked
how often), so its owner must report every answer: ``received``, ``released``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitarray import bitarray
from bitarray.util import count_n, ones, zeros

from unchoke.layout import TorrentLayout
from unchoke.types import BLOCK_SIZE, Block

if TYPE_CHECKING:
    from random import Random

Key = Hashable
_HELD = 255
_IS_HELD = bytes(_HELD) + b"\1"
#: Pieces that failed and are hurried again, from others. Beyond it the oldest wait for their turn like any piece.
MOST_AGAIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PickerSettings:
    """How pieces are chosen."""

    random_first: int = 4
    """Pieces picked at random before rarest-first begins (BEP 3; four in the first client and in libtorrent)."""

    sequential: bool = False
    """First to last, for data that is used while it comes. Costs the swarm variety."""

    endgame_requests: int = 8
    """Blocks asked twice that one peer may have open at a time. More finish no sooner and are fetched in vain."""

    endgame_copies: int = 3
    """Peers that one block may be asked of at the same time."""


class OpenPiece:
    """A piece of which blocks are asked or held.

    ``states``: a byte a block: 0 free, 255 held, else how many peers were asked for it. ``free`` is a stack of the free ones.
    ``givers``: who gave each block; None also for one that was on disk already. ``suspects``: who had a part in a copy of it
    that failed.
    """

    __slots__ = ("asked_twice", "free", "givers", "index", "leader", "left", "size", "states", "suspects")

    def __init__(self, index: int, size: int) -> None:
        count = -(-size // BLOCK_SIZE)
        self.index = index
        self.size = size
        self.left = count
        self.states = bytearray(count)
        self.free = list(range(count - 1, -1, -1))
        self.givers: list[Key] = [None] * count
        self.leader: Key = None
        self.asked_twice = False  # some block of it was asked of two peers at one time
        self.suspects: Collection[Key] = ()

    @property
    def asked(self) -> int:
        """Blocks that somebody was asked for and nobody gave yet."""
        return self.left - len(self.free)

    def held(self) -> bitarray:
        """A bit a block: is it held?"""
        bits = bitarray(endian="big")
        bits.pack(bytes(self.states).translate(_IS_HELD))
        return bits

    def hold(self, held: bitarray) -> None:
        """These blocks are on disk already. For a piece just opened."""
        for number in held.search(1):
            self.states[number] = _HELD
        self.free = [number for number in self.free if not held[number]]
        self.left = len(self.free)

    def first_held(self, first: int, stop: int) -> int:
        """The first of blocks ``first`` up to ``stop`` that is held; -1 if none is."""
        return self.states.find(_HELD, first, stop)

    def lose(self, number: int) -> None:
        """A held block is not held after all, and is free to be asked for again."""
        self.states[number] = 0
        self.givers[number] = None
        self.free.append(number)
        self.left += 1

    @property
    def is_untouched(self) -> bool:
        """Nothing held and nothing asked."""
        return len(self.free) == len(self.states)

    @property
    def is_waiting(self) -> bool:
        """Somebody was asked for a block of it."""
        return self.left > len(self.free)

    def __repr__(self) -> str:
        signs = "".join("." if state == 0 else "x" if state == _HELD else str(state) for state in self.states[:64])
        return f"<OpenPiece {self.index} [{signs}]>"


class Run:
    """What one giver fetches in one go: blocks ``first`` to ``stop`` of the open ``piece``, then the pieces from ``next`` up to
    ``end``, which are claimed and not open yet.

    ``first`` is moved on by whoever fetches; ``end`` may come nearer at any time, since others help themselves from behind.
    """

    __slots__ = ("end", "first", "key", "next", "piece", "stop")

    def __init__(self, key: Key, start: int, end: int, piece: OpenPiece | None = None) -> None:
        self.key = key
        self.next = start
        self.end = end
        self.piece = piece
        self.first = self.stop = 0

    @property
    def claimed(self) -> int:
        """Pieces that are not open yet."""
        return self.end - self.next

    def __repr__(self) -> str:
        return f"<Run [{self.piece} from block {self.first} | {self.claimed} pieces more, to {self.end}]>"


class PiecePicker:
    """``have`` and ``wanted`` are bitfields over all pieces; ``wanted`` defaults to all.

    ``high`` and ``low``: pieces to choose before the others, and after them (None: no such). ``high`` wins over ``low``.
    """

    def __init__(
        self,
        layout: TorrentLayout,
        rng: Random,
        *,
        settings: PickerSettings | None = None,
        have: bitarray | None = None,
        wanted: bitarray | None = None,
        high: bitarray | None = None,
        low: bitarray | None = None,
    ) -> None:
        self.settings = settings or PickerSettings()
        self._layout = layout
        self._rng = rng
        count = layout.piece_count
        self.have: bitarray = have.copy() if have is not None else zeros(count, "big")
        self.wanted: bitarray = wanted.copy() if wanted is not None else ones(count, "big")
        self.open: dict[int, OpenPiece] = {}
        self._todo: bitarray = self.wanted & ~self.have  # wanted, neither had nor open
        self._have_count = self.have.count(1)
        self._left = self._todo.count(1)  # wanted and not had; open ones too
        self._unfinished: dict[int, OpenPiece] = {}  # open, with free blocks
        self._current: dict[Key, OpenPiece] = {}
        self._planes: list[bitarray] = []
        self._seeds = 0
        self._single: dict[int, None] = {}  # failed twice: the next try is one peer's alone
        self._again: dict[int, frozenset[Key]] = {}  # failed, and not open now → who gave it
        self._high = _some(high)
        self._low = _some(low)
        self._runs: dict[Run, None] = {}

    def select(self, wanted: bitarray, high: bitarray | None = None, low: bitarray | None = None) -> list[int]:
        """Other pieces are wanted from now on, or other ones first. Returns the open pieces that were given up for it.

        A piece that is complete and being verified goes on to its end, wanted or not. The owner frees the memory of those
        returned, and takes back what it asked of them.
        """
        self.wanted = wanted.copy()
        self._high, self._low = _some(high), _some(low)
        missing = wanted & ~self.have
        self._left = missing.count(1)
        dropped = [index for index, piece in self.open.items() if piece.left and not wanted[index]]
        for index in dropped:
            self._close(index)
        for index in self.open:
            missing[index] = 0
        self._todo = missing
        for run in self._runs:  # whoever fetches asks again for what is still wanted
            run.end = run.next
        return dropped

    # ------------------------------------------------------------------ the swarm changes

    def add_peer(self, pieces: bitarray | None) -> None:
        """A peer's pieces count from now on; None for one that has all."""
        if pieces is None:
            self._seeds += 1
            return
        carry = pieces
        for number, plane in enumerate(self._planes):
            both = plane & carry
            self._planes[number] = plane ^ carry
            carry = both
            if not carry.any():
                return
        if carry.any():
            self._planes.append(carry.copy())

    def remove_peer(self, pieces: bitarray | None) -> None:
        """The opposite of ``add_peer``, with the pieces the peer has by now."""
        if pieces is None:
            self._seeds -= 1
            return
        borrow = pieces
        for number, plane in enumerate(self._planes):
            less = borrow & ~plane
            self._planes[number] = plane ^ borrow
            borrow = less
            if not borrow.any():
                break
        while self._planes and not self._planes[-1].any():
            self._planes.pop()

    def add_have(self, piece: int) -> None:
        """A counted peer that has not all got one more piece."""
        for plane in self._planes:
            if plane[piece]:
                plane[piece] = 0
            else:
                plane[piece] = 1
                return
        plane = zeros(len(self.have), "big")
        plane[piece] = 1
        self._planes.append(plane)

    def availability(self, piece: int) -> int:
        """How many counted peers have this piece."""
        return self._seeds + sum(plane[piece] << number for number, plane in enumerate(self._planes))

    def copies(self) -> float:
        """Distributed copies: the rarest piece's count, and the share of pieces that have more (ours not counted)."""
        count = len(self.have)
        if not count:
            return float(self._seeds)
        rarest = self._rarest(ones(count, "big"))
        least = self.availability(rarest.find(1))
        return least + 1 - rarest.count(1) / count

    # ------------------------------------------------------------------ questions

    @property
    def left(self) -> int:
        """Wanted pieces that we do not have."""
        return self._left

    @property
    def is_done(self) -> bool:
        return self._left == 0

    @property
    def in_endgame(self) -> bool:
        """Everything wanted is asked of somebody or held."""
        if any(run.claimed for run in self._runs):
            return False
        return self._left > 0 and not self._unfinished and not self._todo.any()

    def wants(self, pieces: bitarray | None) -> bool:
        """Has a peer with these pieces (None: all) anything that we want? The question behind *interested*."""
        if pieces is None:
            return self._left > 0
        return bool((self.wanted & pieces & ~self.have).any())

    def wants_piece(self, piece: int) -> bool:
        return bool(self.wanted[piece] and not self.have[piece])

    def may_be_opened(self, piece: int) -> bool:
        """Is it wanted, not had, and nobody was asked for it yet?"""
        return bool(self._todo[piece])

    # ------------------------------------------------------------------ picking

    def next(
        self,
        key: Key,
        pieces: bitarray | None,
        count: int,
        may_open: Callable[[int], bool],
        asked: Collection[tuple[int, int]] = (),
        metered: Collection[int] = (),
        allowance: Callable[[int], int] = lambda chosen: 0,
        suggested: Collection[int] = (),
    ) -> list[Block]:
        """Up to ``count`` blocks to ask of peer ``key`` that has ``pieces`` (None: all). They count as asked from now on.

        ``may_open(piece)`` reserves memory for a new piece, or says no. ``asked`` are the (piece, begin) that this peer
        was asked for already. Of the pieces in ``metered`` only so many blocks are chosen as ``allowance(chosen)`` says,
        told how many this answer has by then. Where a new piece is one of several as good, those ``suggested`` (BEP 6) come
        first, and before what others left half done. The hot path: 0.24 µs a block inside a piece, and for each new piece 2 µs
        (1,000 pieces, all seeds), 11 (100,000, with 50 partial peers), 45 (500,000, likewise): docs/decisions/0003.
        """
        blocks: list[Block] = []
        piece = self._current.get(key)
        room = count
        while room > 0:
            if piece is None or not piece.free:
                piece = self._choose(key, pieces, may_open, suggested=suggested)
                if piece is None:
                    break
            most = 0
            if metered and piece.index in metered:
                most = room - allowance(len(blocks))
                if most >= room:  # nothing of this one: something that is not metered, or nothing
                    piece = self._choose(key, pieces, may_open, metered, suggested)
                    if piece is None or piece.index in metered:
                        break
                    continue
                most = max(most, 0)
            free, states, index = piece.free, piece.states, piece.index
            whole = piece.size - BLOCK_SIZE
            while free and room > most:
                number = free.pop()
                begin = number * BLOCK_SIZE
                states[number] += 1
                blocks.append(Block(index, begin, BLOCK_SIZE if begin <= whole else piece.size - begin))
                room -= 1
            if not free:
                self._unfinished.pop(index, None)
        if not blocks and self.in_endgame:
            return self._endgame(pieces, count, asked)
        return blocks

    def _choose(
        self,
        key: Key,
        pieces: bitarray | None,
        may_open: Callable[[int], bool],
        closed: Collection[int] = (),
        suggested: Collection[int] = (),
    ) -> OpenPiece | None:
        """``closed``: open pieces of which nothing may be asked now."""
        chosen = (
            (self._advised(pieces, may_open, suggested) if suggested else None)
            or self._orphan(key, pieces, closed)
            or self._new(key, pieces, may_open)
            or self._shared(key, pieces, closed)
            or (self._stolen(pieces, may_open) if self._runs else None)
        )
        if chosen is None:
            self._current.pop(key, None)
            return None
        chosen.leader = key
        self._current[key] = chosen
        return chosen

    def _usable(self, key: Key, pieces: bitarray | None, closed: Collection[int]) -> Iterator[OpenPiece]:
        """Open pieces with free blocks that this peer has, and that need not come from another alone."""
        single = self._single
        for index, piece in self._unfinished.items():
            if index in closed or (index in single and piece.leader != key):
                continue
            if pieces is None or pieces[index]:
                yield piece

    def _orphan(self, key: Key, pieces: bitarray | None, closed: Collection[int]) -> OpenPiece | None:
        current = self._current
        best: OpenPiece | None = None
        for piece in self._usable(key, pieces, closed):
            if current.get(piece.leader) is not piece and (best is None or piece.left < best.left):
                if piece.suspects and key in piece.suspects:
                    continue
                best = piece
        return best

    def _shared(self, key: Key, pieces: bitarray | None, closed: Collection[int]) -> OpenPiece | None:
        """The one with the most to do; one that this peer may have spoilt before only if there is no other."""
        return max(
            self._usable(key, pieces, closed),
            key=lambda piece: (key not in piece.suspects, len(piece.free)),
            default=None,
        )

    def _advised(
        self, pieces: bitarray | None, may_open: Callable[[int], bool], suggested: Collection[int]
    ) -> OpenPiece | None:
        """A new piece that the peer suggests, if no other is rarer or to come first: nobody can steer us away from these."""
        candidates = self._todo if pieces is None else self._todo & pieces
        if self.settings.sequential or self._again or not any(candidates[piece] for piece in suggested):
            return None
        if self._high is not None or self._low is not None:
            level = candidates.copy()
            for index in self._unfinished:
                level[index] = pieces is None or pieces[index]
            candidates = candidates & self._foremost(level)
        if self._have_count >= self.settings.random_first:
            candidates = self._rarest(candidates)
        for index in suggested:
            if candidates[index]:
                return self._open(index) if may_open(index) else None
        return None

    def _new(self, key: Key, pieces: bitarray | None, may_open: Callable[[int], bool]) -> OpenPiece | None:
        candidates = self._todo if pieces is None else self._todo & pieces
        if not candidates.any():
            return None
        index = self._pick_again(key, candidates) if self._again else self._pick(candidates)
        if index < 0 or not may_open(index):
            return None
        return self._open(index)

    def _open(self, index: int) -> OpenPiece:
        self._todo[index] = 0
        piece = OpenPiece(index, self._layout.piece_size(index))
        if index in self._again:
            piece.suspects = self._again.pop(index)
        self.open[index] = self._unfinished[index] = piece
        return piece

    def _pick_again(self, key: Key, candidates: bitarray) -> int:
        """A failed piece soon, since its good copy names who lied; but of those who gave it last time as the last resort."""
        mine = []
        for index, givers in self._again.items():
            if candidates[index]:
                if key not in givers:
                    return index
                mine.append(index)
        others = candidates.copy()
        for index in mine:
            others[index] = 0
        return self._pick(others if others.any() else candidates)

    def _pick(self, candidates: bitarray) -> int:
        if self._high is not None or self._low is not None:
            candidates = self._foremost(candidates)
        if self.settings.sequential:
            return candidates.find(1)
        if self._have_count >= self.settings.random_first:
            candidates = self._rarest(candidates)
        total = candidates.count(1)
        return count_n(candidates, self._rng.randrange(total) + 1) - 1 if total else -1

    def _foremost(self, candidates: bitarray) -> bitarray:
        """Those of the highest priority among the candidates."""
        if self._high is not None and (first := candidates & self._high).any():
            return first
        if self._low is not None and (first := candidates & ~self._low).any():
            return first
        return candidates

    def rarest(self, candidates: bitarray) -> bitarray:
        """Those of ``candidates`` that fewest peers have."""
        return self._rarest(candidates)

    def _rarest(self, candidates: bitarray) -> bitarray:
        """Those of the candidates that the fewest peers have: from the highest bit of the counts down, keep the zeros if any."""
        for plane in reversed(self._planes):
            fewer = candidates & ~plane
            if fewer.any():
                candidates = fewer
        return candidates

    def again(self, pieces: bitarray | None, count: int, asked: Collection[tuple[int, int]]) -> list[Block]:
        """Up to ``count`` blocks that others were asked for, as in the endgame; for a peer that would idle otherwise."""
        return self._endgame(pieces, count, asked)

    def _endgame(self, pieces: bitarray | None, count: int, asked: Collection[tuple[int, int]]) -> list[Block]:
        settings = self.settings
        found: list[Block] = []
        room = min(count, settings.endgame_requests - len(asked))
        if room <= 0:
            return found
        for copies in range(1, settings.endgame_copies):
            for piece in self.open.values():
                if not piece.left or (pieces is not None and not pieces[piece.index]) or piece.index in self._single:
                    continue
                number = piece.states.find(copies)
                while number >= 0:
                    begin = number * BLOCK_SIZE
                    if (piece.index, begin) not in asked:
                        if len(found) >= room:
                            return found
                        piece.states[number] += 1
                        piece.asked_twice = True
                        found.append(Block(piece.index, begin, min(BLOCK_SIZE, piece.size - begin)))
                    number = piece.states.find(copies, number + 1)
            if found:
                break
        return found

    # ------------------------------------------------------------------ runs

    def take_run(self, key: Key, pieces: bitarray | None, most: int, *, least: int = 1) -> Run | None:
        """Something for ``key``, who has ``pieces`` (None: all), to fetch in one go; give it back with ``end_run``.

        Free blocks of an open piece that nobody works through; else at most ``most`` adjacent pieces: of those that nobody else
        has, if there are such, the longest row, the first of equals; else the far half of another's run that has ``least`` pieces
        left; else free blocks of any open piece.
        """
        run = (
            self._stretch(key, pieces, left_alone=True)
            or self._row(key, pieces, most)
            or self._half(key, pieces, least)
            or self._stretch(key, pieces)
        )
        if run is not None:
            self._runs[run] = None
        return run

    def _stretch(self, key: Key, pieces: bitarray | None, *, left_alone: bool = False) -> Run | None:
        usable = self._usable(key, pieces, ())
        if left_alone:
            usable = (piece for piece in usable if self._current.get(piece.leader) is not piece)
        piece = next(usable, None)
        if piece is None:
            return None
        first = piece.states.find(0)
        rest = piece.states[first:]
        run = Run(key, piece.index, piece.index, piece)
        run.first, run.stop = first, first + len(rest) - len(rest.lstrip(b"\0"))
        self._ask_all(run, piece)
        return run

    def _ask_all(self, run: Run, piece: OpenPiece) -> None:
        for number in range(run.first, run.stop):
            piece.states[number] += 1
        piece.free = [number for number in piece.free if not run.first <= number < run.stop]
        piece.leader = run.key
        if not piece.free:
            self._unfinished.pop(piece.index, None)

    def _row(self, key: Key, pieces: bitarray | None, most: int) -> Run | None:
        candidates = self._todo.copy() if pieces is None else self._todo & pieces
        for index, givers in self._again.items():
            if key in givers:
                candidates[index] = 0
        if not candidates.any():
            return None
        if self._high is not None or self._low is not None:
            candidates = self._foremost(candidates)
        if not self._seeds and not self.settings.sequential:
            candidates = self._nobodys(candidates)
        if self.settings.sequential:
            start = candidates.find(1)
            end = candidates.find(0, start, start + most)
            end = min(start + most, len(candidates)) if end < 0 else end
        else:
            start, end = _longest_row(candidates, most)
        self._todo[start:end] = 0
        return Run(key, start, end)

    def _nobodys(self, candidates: bitarray) -> bitarray:
        """Those that no peer has, if there are any."""
        rest = candidates
        for plane in self._planes:
            rest = rest & ~plane
        return rest if rest.any() else candidates

    def _half(self, key: Key, pieces: bitarray | None, least: int) -> Run | None:
        """The far half of the longest run. No use of the server that is at it already having all of its connections there."""
        victim = max(self._runs, key=lambda run: run.claimed, default=None)
        if victim is None or victim.claimed < max(least, 1):
            return None
        start, end = (victim.next + victim.end) // 2, victim.end
        if pieces is not None and not pieces[start:end].all():
            return None
        victim.end = start
        return Run(key, start, end)

    def again_run(self, key: Key, pieces: bitarray | None, spared: Collection[int]) -> Run | None:
        """As in the endgame: blocks in a row that were asked of one other, and not given yet; of none of the pieces ``spared``."""
        for piece in self.open.values():
            if not piece.left or piece.index in spared or piece.index in self._single:
                continue
            if (pieces is not None and not pieces[piece.index]) or (first := piece.states.find(1)) < 0:
                continue
            rest = piece.states[first : first + self.settings.endgame_requests]
            run = Run(key, piece.index, piece.index, piece)
            run.first, run.stop = first, first + len(rest) - len(rest.lstrip(b"\1"))
            for number in range(run.first, run.stop):
                piece.states[number] += 1
            piece.asked_twice = True
            self._runs[run] = None
            return run
        return None

    def next_of(self, run: Run, may_open: Callable[[int], bool]) -> bool:
        """Open the next piece of a run, all its blocks asked. False: there is no memory, or no next piece (``claimed``)."""
        index = run.next
        if index >= run.end or not may_open(index):
            return False
        run.next += 1
        run.piece = piece = self._open(index)
        run.first, run.stop = 0, len(piece.states)
        self._ask_all(run, piece)
        return True

    def extend(self, run: Run, pieces: bitarray | None) -> None:
        """Claim what can be fetched right behind a run: its giver sends on anyway."""
        if run.end < len(self._todo) and self._todo[run.end]:
            end = self._todo.find(0, run.end)
            end = len(self._todo) if end < 0 else end
            if pieces is not None and (lacks := pieces.find(0, run.end, end)) >= 0:
                end = lacks
            self._todo[run.end : end] = 0
            run.end = end

    def end_run(self, run: Run) -> list[int]:
        """What of it did not come is anybody's again. Returns pieces that were given up for it, so that memory is freed."""
        if self._runs.pop(run, run) is run:
            return []
        self._unclaim(run, run.next)
        piece = run.piece
        if piece is None or self.open.get(piece.index) is not piece or run.first >= run.stop:
            return []
        self.released((piece.index, number * BLOCK_SIZE) for number in range(run.first, run.stop))
        return self.given_up(run.key, piece.index)

    def _unclaim(self, run: Run, start: int) -> None:
        """Of its claims, those from ``start`` on."""
        if start < run.end:
            self._todo[start : run.end] = self.wanted[start : run.end] & ~self.have[start : run.end]
            run.end = start

    def _stolen(self, pieces: bitarray | None, may_open: Callable[[int], bool]) -> OpenPiece | None:
        """The last piece that the longest run has claimed; of those that the peer has, the last."""
        run = max(self._runs, key=lambda run: run.claimed)
        if not run.claimed:
            return None
        index = run.end - 1 if pieces is None else pieces.find(1, run.next, run.end, True)
        if index < 0 or not may_open(index):
            return None
        self._unclaim(run, index)
        return self._open(index)

    # ------------------------------------------------------------------ answers

    def needs(self, key: Key, piece: int, begin: int) -> bool:
        """Is this block of an open piece still missing, and may it come from this peer?"""
        open_piece = self.open.get(piece)
        if open_piece is None or open_piece.states[begin // BLOCK_SIZE] == _HELD:
            return False
        return not self._single or piece not in self._single or open_piece.leader == key

    def received(self, key: Key, piece: int, begin: int) -> OpenPiece | None:
        """A block is in. Returns its piece, complete when ``left`` is 0; None if the block was not needed any more."""
        open_piece = self.open.get(piece)
        if open_piece is None:
            return None
        number = begin // BLOCK_SIZE
        states = open_piece.states
        if states[number] == _HELD or (self._single and piece in self._single and open_piece.leader != key):
            return None
        if states[number] == 0:  # it had been let go: late, and welcome
            open_piece.free.remove(number)
            if not open_piece.free:
                self._unfinished.pop(piece, None)
        states[number] = _HELD
        open_piece.givers[number] = key
        open_piece.left -= 1
        return open_piece

    def take_up(self, index: int, held: bitarray) -> OpenPiece | None:
        """Open a piece of which these blocks are on disk already; ``left`` may be 0. None if it is not to be fetched."""
        if not 0 <= index < len(self._todo) or not self._todo[index]:
            return None
        piece = self._open(index)
        piece.hold(held)
        if not piece.left:
            del self._unfinished[index]
        return piece

    def lost(self, index: int, begin: int) -> None:
        """A block that was received could not be kept: it is free again."""
        piece = self.open[index]
        piece.lose(begin // BLOCK_SIZE)
        self._unfinished[index] = piece

    def discard(self, is_liar: Callable[[Key], bool], spared: Collection[int] = ()) -> None:
        """What these gave of unfinished pieces is not to be trusted, and free to be asked for again. ``spared`` are left."""
        for index, piece in self.open.items():
            if piece.left and index not in spared:
                bad = {giver for giver in dict.fromkeys(piece.givers) if giver is not None and is_liar(giver)}
                for number, giver in enumerate(piece.givers) if bad else ():
                    if giver in bad:
                        piece.lose(number)
                        self._unfinished[index] = piece

    def released(self, blocks: Iterable[tuple[int, int]]) -> None:
        """These (piece, begin) will not come from one peer that was asked: choked, rejected, too late, gone."""
        for index, begin in blocks:
            piece = self.open.get(index)
            if piece is None:
                continue
            number = begin // BLOCK_SIZE
            state = piece.states[number]
            if state in (0, _HELD):
                continue
            piece.states[number] = state - 1
            if state == 1:
                piece.free.append(number)
                self._unfinished[index] = piece

    def peer_gone(self, key: Key) -> list[int]:
        """The peer works on nothing any more (choked, snubbed or gone); release its blocks first.

        A piece that had to come from it alone starts again; those are returned, so that memory is freed.
        """
        self._current.pop(key, None)
        mine = [piece for index in self._single if (piece := self.open.get(index)) is not None and piece.leader == key]
        closed = [piece.index for piece in mine if piece.left]  # not one that is being verified
        for index in closed:
            self._close(index)
        return closed

    def given_up(self, key: Key, index: int) -> list[int]:
        """The peer will not give all of this piece. If it had to come from it alone it starts again, from whoever asks next:
        returned, so that memory is freed."""
        piece = self.open.get(index)
        if index not in self._single or piece is None or piece.leader != key or not piece.left:
            return []
        if self._current.get(key) is piece:
            del self._current[key]
        self._close(index)
        return [index]

    def close(self, index: int) -> None:
        """Give up an open piece."""
        self._close(index)

    def close_untouched(self) -> list[int]:
        """Open pieces of which nothing is held and nothing asked go back to the heap; returned, so that memory is freed."""
        idle = [index for index, piece in self._unfinished.items() if piece.is_untouched]
        for index in idle:
            self._close(index)
        return idle

    def evict(self, pieces: bitarray, spared: Collection[int] = ()) -> int | None:
        """Give up an open piece nobody is asked for and a peer with ``pieces`` lacks: memory must not wait for the departed.

        ``spared``: those that cost no memory.
        """
        stuck = [
            piece
            for piece in self.open.values()
            if piece.left and not pieces[piece.index] and not piece.is_waiting and piece.index not in spared
        ]
        if not stuck:
            return None
        index = max(stuck, key=lambda piece: piece.left).index
        self._close(index)
        return index

    def _close(self, index: int) -> None:
        piece = self.open.pop(index)
        piece.free = []  # whoever works through it finds nothing more to do
        self._unfinished.pop(index, None)
        if piece.suspects:
            self._hurry(index, piece.suspects)
        if self.wanted[index] and not self.have[index]:
            self._todo[index] = 1

    def piece_good(self, index: int) -> None:
        """The piece was verified and written."""
        piece = self.open.pop(index, None)
        if piece is not None:
            piece.free = []
        self._unfinished.pop(index, None)
        self._single.pop(index, None)
        self._again.pop(index, None)
        if not self.have[index]:
            self.have[index] = 1
            self._todo[index] = 0
            self._have_count += 1
            self._left -= self.wanted[index]

    def piece_bad(self, index: int, *, suspects: Iterable[Key] = (), single: bool = False) -> None:
        """The piece failed (or could not be written) and is fetched again, soon if there are ``suspects``, and from others.

        ``single``: the whole of it from one peer.
        """
        if index in self.open:
            suspects = [*self.open[index].suspects, *suspects]
            self._close(index)
        if suspects := frozenset(suspects):
            self._hurry(index, suspects)
        if single:
            self._single[index] = None

    def _hurry(self, index: int, suspects: Collection[Key]) -> None:
        self._again[index] = frozenset(suspects)
        if len(self._again) > MOST_AGAIN:
            del self._again[next(iter(self._again))]

    def piece_lost(self, index: int) -> None:
        """A piece that we had is no longer there."""
        if self.have[index]:
            self.have[index] = 0
            self._have_count -= 1
            if self.wanted[index]:
                self._left += 1
                self._todo[index] = 1

    def __repr__(self) -> str:
        have, count = self._have_count, len(self.have)
        return f"<PiecePicker [{have}/{count} had | {len(self.open)} open | {self._left} wanted{' | endgame' * self.in_endgame}]>"


def _longest_row(candidates: bitarray, most: int) -> tuple[int, int]:
    """The longest row of ones, of at most ``most``, the first of equals: (its start, its end). There must be a one.

    Rows of twice the length are starts of rows that are followed by starts of rows: a few ANDs for any number of pieces.
    """
    length, starts = 1, candidates
    longer = [(length, starts)]
    while length * 2 <= most and (twice := starts & (starts << length)).any():
        length, starts = length * 2, twice
        longer.append((length, starts))
    for more, others in reversed(longer):
        if length + more <= most and (both := starts & (others << length)).any():
            length, starts = length + more, both
    start = starts.find(1)
    return start, start + length


def _some(bits: bitarray | None) -> bitarray | None:
    """None for a priority that no piece has, so that it costs nothing."""
    return bits.copy() if bits is not None and bits.any() else None
