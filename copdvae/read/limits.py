"""How much a file may become in memory. Sizes are known, or counted while a stream is inflated, before memory is asked for."""

import errno
from pathlib import Path
from typing import IO

from copdvae.errors import ReadError

SWELLING_LIMIT = 200  # bytes that one byte on the disk may become where it is much; deflate can make 1,032 of one, bzip2 a million
UNPROVEN_BYTES = 1 << 24  # up to here a small file may become what it likes
TABLE_BYTES = 1 << 27  # of a table as text
TABLE_CELLS = 10_000_000  # 10,000 subjects with 1,000 columns
CHUNK = 1 << 20


def most_of(size: int) -> int:
    """Bytes that `size` bytes on the disk may become."""
    return max(UNPROVEN_BYTES, SWELLING_LIMIT * size)


def read_within(stream: IO[bytes], path: Path, limit: int) -> bytes:
    """All of a stream; raises before it has read much more than `limit` bytes."""
    parts, found = [], 0
    while part := stream.read(CHUNK):
        parts.append(part)
        found += len(part)
        if found > limit:
            raise too_large(path, f"over {limit:,} bytes")
    return b"".join(parts)


def of_the_disk(error: BaseException) -> bool:
    """Whether an error is the file system's; libraries raise `OSError` for bad contents, too, or make bad contents into a bad call."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def too_large(path: Path, found: str) -> ReadError:
    return ReadError(f"{path}: {found} once it is unpacked; is it the right file? If so, leave out what is not needed", "too_large")
