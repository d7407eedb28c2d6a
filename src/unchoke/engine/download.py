"""Download: what one peer gives us. The requests that are open with it, and the answers. (Its twin is ``upload``.)

It keeps this conversation's own account: what the peer has, which blocks were asked and when, and which questions were let
go (choked, timed out, cancelled) and may still be answered. Which block to ask for is the picker's choice, how many the
pipeline's.
"""

from __future__ import annotations

from collections import deque

from bitarray import bitarray

from unchoke.bitfield import Bitfield
from unchoke.policy.pipeline import Pipeline, PipelineSettings

#: Seconds an answer to a question that was let go is still welcome, or at least not held against the peer.
GRACE = 120.0
#: Blocks nobody asked for that are forgiven to a peer without the fast extension (their answers cross our cancels).
FORGIVEN = 16
#: Pieces a peer may allow us to ask for while choked. BEP 6's own set has ten.
MOST_ALLOWED_FAST = 64
#: Pieces suggested by a peer that are kept in mind, the latest (libtorrent: 16).
MOST_SUGGESTED = 16


class Download:
    """One peer's. ``pieces`` is what it has; ``has_all`` saves looking."""

    __slots__ = (
        "allowed_fast",
        "has_all",
        "let_go",
        "outstanding",
        "paused_until",
        "pieces",
        "pipeline",
        "rejects",
        "suggested",
        "unasked",
        "wasted",
    )

    def __init__(self, piece_count: int, settings: PipelineSettings, now: float) -> None:
        self.pieces = Bitfield(piece_count)
        self.has_all = False
        self.outstanding: dict[tuple[int, int], int] = {}  # (piece, begin) → length, in the order asked
        self.let_go: dict[tuple[int, int], float] = {}  # … → when it was let go
        self.pipeline = Pipeline(settings, now)
        self.allowed_fast: set[int] = set()
        self.suggested: deque[int] = deque(maxlen=MOST_SUGGESTED)
        self.paused_until = 0.0
        self.rejects = 0
        self.unasked = 0
        self.wasted = 0

    @property
    def bits(self) -> bitarray | None:
        """What it has as the picker wants it: None for everything."""
        return None if self.has_all else self.pieces.bits

    def let_all_go(self, now: float) -> list[tuple[int, int]]:
        """No answer is awaited any more; returns the blocks, for the picker."""
        blocks = list(self.outstanding)
        for block in blocks:
            self.let_go[block] = now
        self.outstanding.clear()
        return blocks

    def let_one_go(self, block: tuple[int, int], now: float) -> bool:
        """One question is withdrawn; False if it was not open."""
        if self.outstanding.pop(block, None) is None:
            return False
        self.let_go[block] = now
        return True

    def forget(self, now: float) -> None:
        """Drop what was let go long ago (it stands in the order of its times)."""
        for block in [block for block, since in self.let_go.items() if now - since > GRACE]:
            del self.let_go[block]

    def rejected(self, piece: int, now: float, *, choked: bool) -> None:
        """The same question must not be asked again at once, for ever: a reject while we are unchoked asks for a pause,
        one while we are choked takes back that the piece is allowed."""
        if choked:
            self.allowed_fast.discard(piece)
        else:
            self.rejects += 1
            self.paused_until = now + min(0.25 * 2 ** min(self.rejects, 8), 30.0)

    def __repr__(self) -> str:
        has = "all" if self.has_all else str(self.pieces.count())
        return f"<Download [has {has} | {len(self.outstanding)} asked | {self.pipeline.rate.total} B | {self.wasted} B wasted]>"
