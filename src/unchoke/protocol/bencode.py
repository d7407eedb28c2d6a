"""Bencode (BEP 3): bytes to values and back, without recursion, within limits.

Values are ``int``, ``bytes``, ``list`` and ``dict`` with ``bytes`` keys. ``strict`` is what we emit ourselves; without
it the liberties of .torrent files in the wild are read too: unsorted keys, leading zeros, ``-0``, and duplicate keys, of
which the *first* one counts. ``decode_top`` also says where each value of the outermost dictionary lies, because an
infohash is the hash of the bytes that were there, never of an encoding made again. Bad data raises BencodeError and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias, cast

from unchoke.errors import BencodeError

Value: TypeAlias = "int | bytes | list[Value] | dict[bytes, Value]"
Span: TypeAlias = tuple[int, int]

#: Containers inside containers. Real torrents need about 5, and BEP 52 file trees two a folder.
MAX_DEPTH = 100
#: Digits of an integer or a length: 2**64 has 20.
MAX_DIGITS = 20
#: Values in one decode, so that a few megabytes of ``de`` cannot become gigabytes of dictionaries. A torrent of 100,000
#: files has about a million.
MAX_VALUES = 4_000_000


class Raw(bytes):
    """Bytes that are bencode already; ``encode`` puts them in as they are."""

    __slots__ = ()


Encodable: TypeAlias = (
    "int | bytes | bytearray | memoryview | str | Sequence[Encodable]"
    " | Mapping[bytes, Encodable] | Mapping[str, Encodable]"
)


class Top(NamedTuple):
    """A decoded dictionary, and the (start, end) of each of its values in the data; ``inside``: those one level down."""

    value: dict[bytes, Value]
    spans: dict[bytes, Span]
    inside: dict[bytes, Span]


def decode(
    data: bytes | memoryview, *, strict: bool = False, max_depth: int = MAX_DEPTH, trailing: bool = False
) -> Value:
    """The one value that ``data`` is. Bytes after it are an error unless ``trailing``. Raises BencodeError."""
    data = bytes(data)
    value, end, _ = _parse(data, 0, strict, max_depth, MAX_VALUES)
    if end != len(data) and not trailing:
        raise BencodeError(f"{len(data) - end} bytes after the end of the bencoded value")
    return value


def decode_prefix(data: bytes | memoryview, *, strict: bool = False, max_depth: int = MAX_DEPTH) -> tuple[Value, int]:
    """The value ``data`` begins with, and where it ends (BEP 9 puts a piece of metadata there). Raises BencodeError."""
    value, end, _ = _parse(bytes(data), 0, strict, max_depth, MAX_VALUES)
    return value, end


def decode_top(
    data: bytes | memoryview,
    *,
    strict: bool = False,
    max_depth: int = MAX_DEPTH,
    trailing: bool = False,
    inside: bytes | None = None,
) -> Top:
    """A dictionary and where its values lie; with ``inside``, also where the values of the dictionary at that key lie.

    ``data[slice(*top.spans[key])]`` is the value's own bencode. Raises BencodeError, also if ``data`` is no dictionary.
    """
    data = bytes(data)
    nested: dict[bytes, Span] = {}
    value, spans, end, _ = _parse_spans(data, 0, strict, max_depth, MAX_VALUES, inside, nested)
    if end != len(data) and not trailing:
        raise BencodeError(f"{len(data) - end} bytes after the end of the bencoded value")
    return Top(value, spans, nested)


def _parse_spans(
    data: bytes,
    pos: int,
    strict: bool,
    max_depth: int,
    budget: int,
    inside: bytes | None,
    nested: dict[bytes, Span],
) -> tuple[dict[bytes, Value], dict[bytes, Span], int, int]:
    """One dictionary, key by key: the value, the spans, the end, and what is left of ``budget``."""
    if data[pos : pos + 1] != b"d":
        raise BencodeError("not a bencoded dictionary")
    pos += 1
    flat: list[Value] = []
    spans: dict[bytes, Span] = {}
    while data[pos : pos + 1] != b"e":
        key, start, budget = _parse(data, pos, strict, max_depth - 1, budget)
        if not isinstance(key, bytes):
            raise BencodeError(f"a dictionary key that is no string, at byte {pos}")
        value: Value
        if key == inside and key not in spans and data[start : start + 1] == b"d":
            value, found, pos, budget = _parse_spans(data, start, strict, max_depth - 1, budget, None, {})
            nested.update(found)
        else:
            value, pos, budget = _parse(data, start, strict, max_depth - 1, budget)
        flat += (key, value)
        spans.setdefault(key, (start, pos))
    return _as_dict(flat, strict, pos), spans, pos + 1, budget


def _parse(data: bytes, pos: int, strict: bool, max_depth: int, budget: int) -> tuple[Value, int, int]:
    """The value at ``pos``, its end, and what is left of ``budget``.

    One long loop on purpose, since a call costs more than most tokens: a 20,000-file torrent takes 76 ms, a tracker's
    700-byte reply 25 us. A dictionary is gathered as a flat list of keys and values and made at its end, so that a string
    is one case, not two.
    """
    outer: list[tuple[list[Value], bool]] = []
    items: list[Value] = []
    in_dict = False
    end = len(data)
    find = data.find
    for used in range(1, budget + 1):
        if pos >= end:
            raise BencodeError("the data ends in the middle of a value")
        byte = data[pos]
        if 48 <= byte <= 57:  # 0-9: a string
            colon = find(b":", pos, pos + MAX_DIGITS + 1)
            digits = data[pos:colon]
            if colon < 0 or not digits.isdigit():
                raise BencodeError(f"bad string length at byte {pos}")
            if strict and byte == 48 and colon - pos > 1:
                raise BencodeError(f"string length with a leading zero at byte {pos}")
            start = colon + 1
            pos = start + int(digits)
            if pos > end:
                raise BencodeError("a string is longer than the data")
            items.append(data[start:pos])
        elif byte == 101:  # e: the end of a list or dictionary
            if not outer:
                raise BencodeError(f"an end without a beginning at byte {pos}")
            value: Value = _as_dict(items, strict, pos) if in_dict else items
            items, in_dict = outer.pop()
            items.append(value)
            pos += 1
        elif byte == 105:  # i: an integer
            number, pos = _integer(data, pos, strict)
            items.append(number)
        elif byte == 100 or byte == 108:  # d, l
            if len(outer) >= max_depth:
                raise BencodeError(f"nested deeper than {max_depth}")
            outer.append((items, in_dict))
            items = []
            in_dict = byte == 100
            pos += 1
        else:
            raise BencodeError(f"not bencode: unexpected byte 0x{byte:02x} at byte {pos}")
        if not outer:
            return items[0], pos, budget - used
    raise BencodeError(f"more than {MAX_VALUES} values")


def _integer(data: bytes, pos: int, strict: bool) -> tuple[int, int]:
    end = data.find(b"e", pos, pos + MAX_DIGITS + 3)
    text = data[pos + 1 : end]
    digits = text[1:] if text[:1] == b"-" else text
    if end < 0 or not digits.isdigit() or len(digits) > MAX_DIGITS:
        raise BencodeError(f"bad integer at byte {pos}")
    if strict and digits[:1] == b"0" and text != b"0":
        raise BencodeError(f"integer with a leading zero at byte {pos}")
    return int(text), end + 1


def _as_dict(flat: list[Value], strict: bool, pos: int) -> dict[bytes, Value]:
    keys = cast("list[bytes]", flat[::2])
    if len(flat) % 2:
        raise BencodeError(f"a dictionary key without a value, before byte {pos}")
    if keys and set(map(type, keys)) != {bytes}:
        raise BencodeError(f"a dictionary key that is no string, before byte {pos}")
    value = dict(zip(keys, flat[1::2], strict=True))
    if len(value) != len(keys):
        if strict:
            raise BencodeError(f"duplicate dictionary keys, before byte {pos}")
        value = dict(zip(reversed(keys), reversed(flat[1::2]), strict=True))
        value = {key: value[key] for key in keys}
    if strict and sorted(keys) != keys:
        raise BencodeError(f"dictionary keys out of order, before byte {pos}")
    return value


def encode(value: Encodable) -> bytes:
    """The bencode of ``value``, keys sorted as raw bytes.

    Text becomes UTF-8 (lone surrogates of ``surrogateescape`` become the bytes they stand for), tuples become lists, and
    ``Raw`` goes in as it is. Raises BencodeError for anything else, and beyond the depth limit.
    """
    out: list[bytes] = []
    open_ones: list[Iterator[Encodable]] = [iter((value,))]
    while open_ones:
        for item in open_ones[-1]:
            if isinstance(item, Raw):
                out.append(item)
            elif isinstance(item, str | bytes | bytearray | memoryview):
                text = _as_bytes(item)
                out += (b"%d:" % len(text), text)
            elif isinstance(item, int):
                out.append(b"i%de" % item)
            else:
                if len(open_ones) > MAX_DEPTH:
                    raise BencodeError(f"nested deeper than {MAX_DEPTH}")
                out.append(b"d" if isinstance(item, Mapping) else b"l")
                open_ones.append(_contents(item))
                break
        else:
            open_ones.pop()
            out.append(b"e")
    out.pop()  # the end of the tuple that held the value itself
    return b"".join(out)


def _as_bytes(text: str | bytes | bytearray | memoryview) -> bytes:
    if not isinstance(text, str):
        return bytes(text)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BencodeError(f"text that cannot be UTF-8: {error.reason}") from None


def _contents(item: object) -> Iterator[Encodable]:
    if isinstance(item, list | tuple):
        return iter(item)
    if not isinstance(item, Mapping):
        raise BencodeError(f"{type(item).__name__} has no bencode")
    pairs: dict[bytes, Encodable] = {}
    for key, value in item.items():
        if not isinstance(key, str | bytes):
            raise BencodeError(f"a dictionary key must be bytes or text, not {type(key).__name__}")
        pairs[_as_bytes(key)] = value
    if len(pairs) != len(item):
        raise BencodeError("the same dictionary key as bytes and as text")
    return chain.from_iterable((key, pairs[key]) for key in sorted(pairs))
