"""``unchoke dht get`` and ``unchoke dht put``: values that the DHT keeps for two hours, under their hash or somebody's key (BEP 44)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unchoke.app.cli.joining import Join, joining_options
from unchoke.app.cli.running import run_briefly
from unchoke.app.cli.text import clean
from unchoke.errors import NetworkError, NotFoundError, StorageError

if TYPE_CHECKING:
    from unchoke.engine.dht import Dht
    from unchoke.protocol.dht.item import Item

#: Bytes read of a FILE to put: more than any value may have, so that what is too long is seen to be.
_MAX_FILE = 4096


# ---------------------------------------------------------------------- get


@click.command()
@click.argument("target", metavar="TARGET|KEY")
@click.option("--salt", default="", metavar="TEXT", help="What the owner of KEY named the value.")
@joining_options("1m")
def get(target: str, salt: str, join: Join, as_json: bool) -> None:
    """Print the value under TARGET (40 hex digits), or that of a public KEY (64), its signature checked (BEP 44).

    A text or file comes out as it was put; a list, dictionary or number as bencode. --json has all of it.
    """
    wanted = _hex(target)
    if len(wanted) not in (20, 32):
        raise click.UsageError(f"{clean(target)!r}: a TARGET has 40 hex digits, a public KEY 64")
    if salt and len(wanted) == 20:
        raise click.UsageError("--salt goes with a public KEY; a TARGET says all by itself")
    key = wanted if len(wanted) == 32 else None
    item = run_briefly(join.run(lambda dht: dht.get(wanted, salt=os.fsencode(salt), key=key)))
    if item is None:
        raise NotFoundError(f"{clean(target)}: nobody in the DHT has it")
    if as_json:
        click.echo(json.dumps(_item_record(item)))
    else:
        _print_value(item)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.strip())
    except ValueError:
        return b""


def _print_value(item: Item) -> None:
    """On a terminal made harmless and with a line's end; elsewhere the bytes themselves."""
    value = _plain(item.value)
    if sys.stdout.isatty():
        click.echo(clean(value.decode("utf-8", "replace")))
    else:
        sys.stdout.buffer.write(value)


def _plain(value: bytes) -> bytes:
    """What the value says if it is a string, else its bencode."""
    from unchoke.protocol.bencode import decode

    found = decode(value)
    return found if isinstance(found, bytes) else value


def _item_record(item: Item) -> dict[str, object]:
    """``text`` is null unless the value is a string of UTF-8; ``bencoded`` is the whole value in hex digits."""
    try:
        text: str | None = _plain(item.value).decode()
    except UnicodeDecodeError:
        text = None
    is_string = item.value[:1].isdigit()
    return {
        "target": item.target.hex(),
        "text": text if is_string else None,
        "bencoded": item.value.hex(),
        "key": item.key.hex() or None,
        "salt": os.fsdecode(item.salt) if item.key else None,
        "seq": item.seq if item.key else None,
        "signature": item.signature.hex() or None,
    }


# ---------------------------------------------------------------------- put


@click.command()
@click.argument("value", metavar="VALUE|FILE")
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Sign with the private key in this file, which is made if it is not there; the value may change later.",
)
@click.option("--salt", default="", metavar="TEXT", help="A name for the value, of those that one key signs.")
@click.option("--seq", type=click.IntRange(0), metavar="N", help="Its number; default: one more than is there now.")
@joining_options("1m")
def put(value: str, key_file: Path | None, salt: str, seq: int | None, join: Join, as_json: bool) -> None:
    """Keep VALUE (a text, a file that exists, or - for standard input; about 1000 bytes) in the DHT for two hours (BEP 44).

    Prints what `unchoke dht get` finds it by: its target, or the public key with --key-file.
    """
    if key_file is None and (salt or seq is not None):
        raise click.UsageError("--salt and --seq are for values that are signed: give a --key-file")
    data = _value(value)
    key = _key(key_file) if key_file is not None else None

    async def work(dht: Dht) -> tuple[Item, int]:
        done = await dht.put(data, key=key, seq=seq, salt=os.fsencode(salt))
        return done.item, done.stored

    try:
        item, stored = run_briefly(join.run(work))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not stored:
        hint = "" if seq is None else "; --seq must be higher than the number that is there"
        raise NetworkError(f"no DHT node took the value{hint}")
    if as_json:
        click.echo(json.dumps(_item_record(item) | {"stored": stored}))
    else:
        click.echo((item.key or item.target).hex())
        nodes = f"{stored} node{'' if stored == 1 else 's'}"
        number = f", as number {item.seq}" if item.key else ""
        click.echo(f"{_named(value)} ({len(data)} bytes) is kept by {nodes}{number}", err=True)


def _named(value: str) -> str:
    """What was put: whoever mistypes the name of a file shall see that it was taken for a text."""
    return "standard input" if value == "-" else f"the file {clean(value)}" if os.path.lexists(value) else "the text"


def _value(value: str) -> bytes:
    if value == "-":
        return sys.stdin.buffer.read(_MAX_FILE)
    if not os.path.lexists(value):
        return os.fsencode(value)
    try:
        with open(value, "rb") as file:
            return file.read(_MAX_FILE)
    except OSError as error:
        raise StorageError(f"{value}: {error.strerror or error}", value) from error


def _key(path: Path) -> bytes:
    """The private key in a file: 64 hex digits. A file that is not there is made, for its owner alone."""
    from unchoke.engine.dht.signing import KEY_SIZE

    try:
        text = path.read_bytes()[:_MAX_FILE]
    except FileNotFoundError:
        return _make_key(path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}", str(path)) from error
    key = _hex(text.decode("ascii", "replace"))
    if len(key) != KEY_SIZE:
        raise click.UsageError(f"{path}: a private key is written as {2 * KEY_SIZE} hex digits")
    return key


def _make_key(path: Path) -> bytes:
    from unchoke.engine.dht.signing import new_key

    key = new_key()
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}", str(path)) from error
    return key
