"""Unpack one folder of a tar or zip archive: regular files alone, inside the folder alone, all of it or nothing."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from copdvae.errors import ReadError
from copdvae.read.limits import CHUNK, SWELLING_LIMIT, most_of


def unpack(archive: Path, inside: str, folder: Path) -> Path:
    """The folder `inside` the archive as `folder`/its last name, unless that is there already; the path of it."""
    target = folder / PurePosixPath(inside).name
    if target.is_dir():
        return target
    temporary = folder / f".{target.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    count, room = 0, most_of(archive.stat().st_size)
    try:
        for name, stream in members(archive):
            path = PurePosixPath(name)
            if not path.is_relative_to(inside) or ".." in path.parts or "\\" in name:
                continue
            own = temporary / path.relative_to(inside)
            own.parent.mkdir(parents=True, exist_ok=True)
            with own.open("wb") as out:
                while part := stream.read(CHUNK):
                    room -= len(part)
                    if room < 0:
                        raise ReadError(
                            f"{archive}: swells to over {SWELLING_LIMIT} times its size as it is unpacked; is it the official archive?",
                            "decompression_bomb",
                        )
                    out.write(part)
            count += 1
        if not count:
            raise ReadError(f"{archive}: no file below {inside} in it; is it the official archive?", "wrong_layout")
        temporary.replace(target)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ReadError(f"{archive}: not a whole archive ({error}); remove it and fetch it again", "truncated") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and bytes of each regular file; links, devices and folders are left out."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as stream:
                        yield info.filename, stream
        return
    with tarfile.open(archive) as opened:
        for item in opened:
            if item.isfile() and (stream := opened.extractfile(item)):
                yield item.name.removeprefix("./"), stream
