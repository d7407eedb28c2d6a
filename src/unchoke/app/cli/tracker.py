"""``unchoke tracker``: a small HTTP and UDP tracker in memory, until it is told to stop."""

from __future__ import annotations

import sys

import click

from unchoke.app.cli.common import verbose_option
from unchoke.app.cli.running import run_async, stop_signal
from unchoke.errors import NetworkError, PortTakenError


@click.command()
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=6969,
    show_default=True,
    metavar="N",
    help="TCP and UDP port; 0: any.",
)
@click.option("--bind", default="", metavar="ADDRESS", help="Listen on this address only.")
@click.option(
    "--interval",
    type=click.IntRange(1, 86400),
    default=120,
    show_default=True,
    metavar="N",
    help="Seconds between announces.",
)
@verbose_option
def tracker(port: int, bind: str, interval: int) -> None:
    """Run a small tracker, HTTP and UDP, for a LAN or a test. It prints its announce URLs and then `ready`."""
    run_async(_serve(port, bind, interval))


async def _serve(port: int, bind: str, interval: int) -> None:
    from unchoke.engine.tracker_server import TrackerServer

    server = TrackerServer(bind=bind, port=port, interval=interval)
    try:
        await server.start()
    except PortTakenError as error:
        raise PortTakenError(f"{error}; choose another one with -p/--port") from None
    except NetworkError as error:
        raise NetworkError(f"{error}; --bind says which address to listen on") from None
    try:
        with stop_signal() as stop:
            for line in (*server.urls, "ready"):
                click.echo(line)
            sys.stdout.flush()
            await stop.wait()
    finally:
        await server.aclose()
