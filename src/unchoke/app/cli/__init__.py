"""The command line: one table of commands, each loaded when it is called, and one place where errors become exit codes.

A first word that is no command is a source, and means ``get``; unless it looks like a command mistyped. Commands return
None or an exit code, and raise UnchokeError; the rest is here. Importing this imports ``click`` and nothing heavier.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from unchoke.app.cli.common import Face, kind_of, verbose_option
from unchoke.app.cli.text import clean
from unchoke.errors import UnchokeError
from unchoke.version import VERSION

#: Name: where the command is, and its line in the help (so that the help need not load them).
COMMANDS = {
    "get": ("unchoke.app.cli.get:get", "Download torrents."),
    "seed": ("unchoke.app.cli.seed:seed", "Serve data that is already there."),
    "create": ("unchoke.app.cli.create:create", "Make a .torrent of a file or folder."),
    "show": ("unchoke.app.cli.show:show", "Print what a torrent or magnet link says."),
    "magnet": ("unchoke.app.cli.magnet:magnet", "Print a torrent's magnet link."),
    "check": ("unchoke.app.cli.check:check", "Verify data against a torrent."),
    "edit": ("unchoke.app.cli.edit:edit", "Change trackers, comment and the like."),
    "tracker": ("unchoke.app.cli.tracker:tracker", "Run a small tracker."),
    "dht": ("unchoke.app.cli.dht:dht", "Ask the distributed hash table."),
    "doctor": ("unchoke.app.cli.doctor:doctor", "Find out what is wrong on this machine."),
    "demo": ("unchoke.app.cli.demo:demo", "See it work, on this machine alone."),
}

_NETWORK_ERRNOS = frozenset(
    getattr(errno, name, -1)
    for name in ("EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN", "ENETUNREACH", "EHOSTUNREACH", "EHOSTDOWN", "EAFNOSUPPORT")
)


class Commands(click.Group):
    """The group whose commands are loaded late, and whose unknown first word is a source for ``get``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            _refuse_near_miss(args[0], ctx)
            args = ["get", *args]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _refuse_near_miss(word: str, ctx: click.Context) -> None:
    """A word that could only be a file, is none, and is nearly a command, is a slip of the finger."""
    if not word.isalpha() or kind_of(word) != "path" or os.path.lexists(word):
        return
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.7)
    if near:
        raise click.UsageError(f"no command or file {clean(word)!r}. Did you mean `unchoke {near[0]}`?", ctx)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND|SOURCE [ARGS]...",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="UNCHOKE_HOME",
    help="Keep configuration, data and cache in this one folder.",
)
@verbose_option
@click.version_option(VERSION, prog_name="unchoke", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, home: Path | None) -> None:
    """A BitTorrent client. A SOURCE (.torrent file, URL, magnet link, infohash, or - for standard input) is downloaded."""
    ctx.ensure_object(Face).home = home
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(args: Sequence[str] | None = None) -> int:
    """The whole program but for leaving it: parse, do, and say in one line what went wrong. Returns the exit code."""
    face = Face()
    _never_fail_to_print()
    try:
        code = main.main(list(args) if args is not None else None, prog_name="unchoke", standalone_mode=False, obj=face)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        _stop_printing()
        return 1
    except Exception as error:  # noqa: BLE001 - the last stop: nobody below shows a traceback
        return _explain(error, face)


def _explain(error: Exception, face: Face) -> int:
    """One line on stderr, and the exit code."""
    if face.verbose > 1 and not isinstance(error, click.ClickException):
        import traceback

        traceback.print_exception(error)
    message, code = _judge(error)
    click.echo(f"unchoke: {clean(message)}", err=True)
    return code


def _judge(error: Exception) -> tuple[str, int]:
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "unchoke"
        return f"{error.format_message()} (see {command} --help)", 2
    if isinstance(error, click.FileError):
        return error.format_message(), 17
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, UnchokeError):
        return str(error) or type(error).__name__, error.exit_code
    if isinstance(error, OSError):
        return _judge_os(error)
    return f"this is a bug: {type(error).__name__}: {error}; run it again with -vv and report what it says", 1


def _judge_os(error: OSError) -> tuple[str, int]:
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    message = f"{where}{error.strerror or error}"
    if isinstance(error, ConnectionError | TimeoutError) or error.errno in _NETWORK_ERRNOS:
        return message, 6
    if isinstance(error, FileNotFoundError):
        return message, 3
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{message}; make room and start again", 9
    return message, 17


def _never_fail_to_print() -> None:
    """A terminal that cannot show a character gets an escape, not a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _stop_printing() -> None:
    """Nobody reads any more: what is still in the buffer goes nowhere, and the interpreter does not complain at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
