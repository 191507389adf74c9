"""Get the official files of an image set: from the network, or from a folder of files that were got by other means.

A download is kept as `.NAME.part` until it is whole and its checksum is right, and only then gets its name; run again, it goes on from
where it stopped (HTTP Range). What has no published checksum is said to have none.
"""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from copdvae.errors import ReadError
from copdvae.files import replacing
from copdvae.read.sources import SOURCES, Source
from copdvae.read.unpack import unpack

CHUNK = 1 << 20
TIMEOUT_S = 30
Progress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all where known


def fetch(
    name: str,
    to: Path,
    source_folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda file, done, total: None,
) -> Path:
    """Put the files of the set `name` into `to`/`name`, checked, archives unpacked; that folder. What is there and right stays."""
    folder = to / name
    for source in SOURCES[name]:
        target = folder / source.file
        if target.is_file():
            verify(source, target)
        elif source_folder is not None:
            copy(source, source_folder / source.file, target)
        elif source.by_hand:
            raise ReadError(
                f"{source.file}: only a person can download it, from {source.url} ; "
                f"then: copdvae data fetch {name} --from FOLDER, with {', '.join(each.file for each in SOURCES[name])} in FOLDER",
                "by_hand",
            )
        else:
            download(source, target, progress)
        if not source.checksum:
            say(f"{source.file}: no checksum is published{', only its size was checked' if source.size else ''}")
        if source.unpack:
            unpack(target, source.unpack, folder)
    return folder


def copy(source: Source, original: Path, target: Path) -> None:
    """Take a local file, if it is the right one."""
    if not original.is_file():
        raise ReadError(f"{original}: no such file; expected it from {source.url}", "no_file")
    verify(source, original)
    with replacing(target) as temporary:
        shutil.copyfile(original, temporary)


def download(source: Source, target: Path, progress: Progress) -> None:
    """Download into `.NAME.part`, going on from what is there; check; give it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    have = part.stat().st_size if part.is_file() else 0
    if have == 0 or have != source.size:
        try:
            receive(source, part, have, progress)
        except HTTPError as error:
            if error.code != 416 or not have:
                raise ReadError(f"{source.url}: the server answers {error.code} {error.reason}; see --from", "network") from None
            part.unlink()  # nothing comes after what is there, so that it was never this file's beginning
            raise ReadError(f"{source.url}: what was there of it was no part of it and is gone; run the same again", "network") from None
        except (URLError, HTTPException, OSError) as error:
            why = getattr(error, "reason", error)
            raise ReadError(f"{source.url}: cannot be had ({why}); run the same again to go on, or see --from", "network") from None
    try:
        verify(source, part, shown=target)
    except ReadError:
        part.unlink()  # going on from a wrong beginning would be wrong again
        raise
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(target)


def receive(source: Source, part: Path, have: int, progress: Progress) -> None:
    """Append what is missing to `part`, or start again where the server does not go on from the middle."""
    headers = {"User-Agent": "copdvae", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with urlopen(Request(source.url, headers=headers), timeout=TIMEOUT_S) as answer:
        have = have if goes_on(answer, have) else 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else source.size
        if source.size is not None and total != source.size:
            part.unlink(missing_ok=True)
            raise ReadError(
                f"{source.url}: {total:,} bytes, expected {source.size:,}; the file has changed there, see --from", "wrong_size"
            )
        if total is not None and total - have > (free := shutil.disk_usage(part.parent).free):
            raise ReadError(f"{part.parent}: {total - have:,} bytes to come and room for {free:,}", "no_room")
        with part.open("ab" if have else "wb") as stream:
            while data := answer.read(CHUNK):
                stream.write(data)
                have += len(data)
                progress(source.file, have, total)
                if total is not None and have > total:
                    break
    if total is not None and have > total:
        part.unlink()
        raise ReadError(f"{source.url}: more than {total:,} bytes; the file has changed there, see --from", "wrong_size")
    if total is not None and have != total:
        raise ReadError(f"{source.url}: the connection ended after {have:,} of {total:,} bytes; run the same again to go on", "truncated")


def goes_on(answer: HTTPResponse, have: int) -> bool:
    """Whether the answer is the rest of the file from byte `have`."""
    return answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def verify(source: Source, path: Path, shown: Path | None = None) -> None:
    """Raise unless the file has the size and checksum that are known of it."""
    shown = shown or path
    found = path.stat().st_size
    if source.size is not None and found != source.size:
        raise ReadError(f"{shown}: {found:,} bytes, expected {source.size:,}; it is not the official file, or not whole", "wrong_size")
    kind, _, expected = source.checksum.partition(":")
    if not expected:
        return
    digest = hashlib.new(kind)
    try:
        with gzip.open(path) if source.of_contents else path.open("rb") as stream:
            while data := stream.read(CHUNK):
                digest.update(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ReadError(f"{shown}: not a whole gzip file ({error})", "wrong_checksum") from None
    if digest.hexdigest() != expected:
        raise ReadError(
            f"{shown}: {kind} {digest.hexdigest()}, expected {expected}; it is not the official file, or not whole",
            "wrong_checksum",
        )


@contextmanager
def shown_on_stderr() -> Iterator[Progress]:
    """A bar for each file, for people to watch."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done)

        yield show
