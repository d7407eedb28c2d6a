"""The machine's own limit for a download in Python: receive, SHA-1, pwrite on two threads, and no protocol at all.

``serve FILE ADDRESS PORT`` sends the file to whoever connects; ``get ADDRESS PORT SIZE OUT`` takes it in pieces of 1 MiB.
"""

from __future__ import annotations

import hashlib
import os
import queue
import socket
import sys
import threading

PIECE = 1 << 20
BUFFERS = 8


def serve(path: str, address: str, port: int) -> None:
    with socket.create_server((address, port)) as listening:
        print("ready", flush=True)
        while True:
            peer, _ = listening.accept()
            with peer, open(path, "rb") as file:
                peer.sendfile(file)


def get(address: str, port: int, size: int, out: str) -> None:
    free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[bytearray, int, int] | None] = queue.SimpleQueue()
    for _ in range(BUFFERS):
        free.put(bytearray(PIECE))
    file = os.open(out, os.O_CREAT | os.O_WRONLY)

    def keep() -> None:
        while (item := full.get()) is not None:
            buffer, length, offset = item
            piece = memoryview(buffer)[:length]
            hashlib.sha1(piece).digest()
            os.pwrite(file, piece, offset)
            free.put(buffer)

    keeper = threading.Thread(target=keep)
    keeper.start()
    with socket.create_connection((address, port)) as peer:
        for offset in range(0, size, PIECE):
            buffer, length = free.get(), min(PIECE, size - offset)
            room = memoryview(buffer)[:length]
            while room:
                room = room[peer.recv_into(room) :]
            full.put((buffer, length, offset))
    full.put(None)
    keeper.join()
    os.close(file)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        get(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
