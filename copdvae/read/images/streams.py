"""Bytes from a stream into an array that is already there."""

from typing import Protocol

import numpy as np

CHUNK = 1 << 24  # bytes a read


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def fill(stream: Readable, array: np.ndarray) -> int:
    """Fill `array` from `stream` as far as that goes; how many bytes that was."""
    room = array.reshape(-1).view(np.uint8)
    done = 0
    while done < len(room) and (data := stream.read(min(CHUNK, len(room) - done))):
        room[done : done + len(data)] = np.frombuffer(data, np.uint8)
        done += len(data)
    return done
