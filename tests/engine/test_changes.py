"""Changes gathered are changes made one after the other."""

from __future__ import annotations

from bitarray import bitarray
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.engine.changes import Batch, Change, Settled
from unchoke.storage.base import FileStatus
from unchoke.storage.records import ResumeRow, TorrentRow, Totals

_PIECES, _FILES = 6, 3


def _bits(text: str) -> bitarray:
    return bitarray(text, endian="big")


def _some(length: int) -> st.SearchStrategy[bitarray]:
    return st.integers(0, 2**length - 1).map(lambda number: _bits(f"{number:0{length}b}"))


_pieces, _files = _some(_PIECES), _some(_FILES)
_settled = st.builds(Settled, _pieces, st.just([FileStatus(1, 2)] * _FILES), st.just({1: b"x"}))
_change = st.one_of(
    st.builds(lambda settled: Change(settled=settled, device=7), _settled),
    st.builds(lambda have, lost: Change(have=have & ~lost, revoked=lost), _pieces, _pieces),
    st.builds(lambda have: Change(have=have), _pieces),
    st.builds(lambda durable: Change(durable=durable), _pieces),
    st.builds(lambda files: Change(open=files), _files),
)
_row = st.none() | st.builds(
    lambda have, durable, marks, boot: ResumeRow(have=have, durable=have & durable, open=marks, boot_id=boot),
    _pieces,
    _pieces,
    _files,
    st.sampled_from(["this", "old"]),
)


@settings(max_examples=300)
@given(_row, _change, _change, _change)
def test_together_they_do_what_they_do_in_turn(row: ResumeRow | None, one: Change, two: Change, three: Change) -> None:
    changes = (one, two, three)
    before = None if row is None else (row.have.copy(), row.durable.copy(), row.open.copy())
    in_turn = three.applied(two.applied(one.applied(row, "this"), "this"), "this")
    together = one.then(two).then(three).applied(row, "this")
    assert not (in_turn.durable & ~in_turn.have).any()
    assert not (together.durable & ~together.have).any()
    assert together.open == in_turn.open
    assert (together.files, together.partial, together.device) == (in_turn.files, in_turn.partial, in_turn.device)
    if any(change.have is not None for change in changes) or row is None or row.boot_id == "this":
        assert together.have == in_turn.have or not together.have  # nobody said how many pieces there are
    # In one transaction a durable piece may be forgotten that two would have kept, or the other way round: never one
    # of which nobody said that it is durable.
    said = [bits for change in changes for bits in (change.durable, change.settled and change.settled.have) if bits]
    for piece in together.durable.search(1):
        assert (row is not None and row.durable[piece]) or any(bits[piece] for bits in said)
    assert row is None or before == (row.have, row.durable, row.open)


def test_a_piece_lost_and_written_again_in_one_second_is_not_durable() -> None:
    row = ResumeRow(have=_bits("11"), durable=_bits("11"), open=_bits("1"), boot_id="b")
    change = Change(have=_bits("10"), revoked=_bits("01")).then(Change(have=_bits("11")))
    after = change.applied(row, "b")
    assert (after.have, after.durable) == (_bits("11"), _bits("10"))


def test_what_the_last_boot_did_not_make_durable_is_not_said_again_in_this_one() -> None:
    row = ResumeRow(have=_bits("111"), durable=_bits("100"), open=_bits("1"), boot_id="before")
    assert Change(open=_bits("1")).applied(row, "now").have == _bits("100")
    assert Change(open=_bits("1")).applied(row, "before").have == _bits("111")
    verified = Change(have=_bits("110")).then(Change(open=_bits("1")))
    assert verified.applied(row, "now").have == _bits("110")


def test_a_clean_close_makes_all_durable_and_a_later_mark_opens_again() -> None:
    row = ResumeRow(have=_bits("10"), durable=_bits("00"), open=_bits("11"), boot_id="b")
    close = Change(settled=Settled(_bits("11"), [FileStatus(5, 6), None], {}))
    after = close.applied(row, "b")
    assert (after.durable, after.open, after.files) == (_bits("11"), _bits("00"), [FileStatus(5, 6), None])
    assert close.then(Change(open=_bits("01"))).applied(row, "b").open == _bits("01")


def test_forgetting_forgets_what_was_queued_and_adding_begins_anew() -> None:
    row = TorrentRow(infohash=bytes(20), folder="/")
    change = Change(add=(row, b"x"), fields={"name": "old"}).then(Change(fields={"position": 1}))
    assert change.fields == {"name": "old", "position": 1}
    assert change.then(Change(forget=True)) == Change(forget=True)
    again = Change(forget=True).then(Change(add=(row, b"y"))).then(Change(fields={"name": "new"}))
    assert (again.forget, again.add, again.fields) == (True, (row, b"y"), {"name": "new"})
    assert change.then(Change(add=(row, b"z"))).fields == {}


def test_what_must_reach_the_disk_before_we_go_on() -> None:
    bits = _bits("1")
    assert not Change(have=bits, durable=bits, fields={"name": "x"}).safe
    for change in (Change(open=bits), Change(revoked=bits), Change(settled=Settled(bits, [], {}))):
        assert change.safe
        assert Batch({(b"", ""): change}).safe


def test_batches_add_up() -> None:
    key = (bytes(20), "/")
    first = Batch({key: Change(fields={"name": "a", "position": 1})}, Totals(1, 2))
    both = first.then(Batch({key: Change(fields={"name": "b"})}, Totals(10, 20)))
    assert both.changes[key].fields == {"name": "b", "position": 1}
    assert both.totals == Totals(11, 22)
    assert bool(both)
    assert bool(Batch(totals=Totals(1, 0)))
    assert not Batch()
