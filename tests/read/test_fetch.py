"""Fetching image sets: a server on 127.0.0.1 that does what servers do, and folders of local files."""

import contextlib
import gzip
import hashlib
import io
import socket
import tarfile
import threading
import typing
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from copdvae.cli import ImageSetName, app
from copdvae.errors import ReadError
from copdvae.read import fetch as module
from copdvae.read.fetch import fetch
from copdvae.read.sources import SOURCES, Source
from copdvae.read.unpack import unpack

CONTENT = bytes(range(256)) * 20_000  # 5 MB, several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()
Request = namedtuple("Request", "path range")


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `stop_after` bytes of an answer it hangs up, `ranges` says whether it can go on from the middle."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.stop_after, self.ranges, self.status, self.length, self.seen = CONTENT, None, True, 200, True, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server: typing.Any = self.server
        asked = self.headers.get("Range")
        server.seen.append(Request(self.path, asked))
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if server.status != 200 or (first and first >= len(server.content)):
            self.send_error(server.status if server.status != 200 else 416)
            return
        body = server.content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # hung up on
            self.wfile.write(body if server.stop_after is None else body[: server.stop_after])

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def one_file(server, monkeypatch):
    """A set `tiny` of one file on the server; what is known of it can be changed."""

    def known(**changes):
        source = Source(**({"url": f"{server.url}/x.bin", "file": "x.bin", "size": len(CONTENT), "checksum": f"sha256:{DIGEST}"} | changes))
        monkeypatch.setitem(SOURCES, "tiny", (source,))

    known()
    return known


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_arrives_whole_with_its_progress(tmp_path, server, one_file):
    steps = []
    assert fetch("tiny", tmp_path, progress=lambda *step: steps.append(step)) == tmp_path / "tiny"
    assert (tmp_path / "tiny" / "x.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["x.bin"]
    assert [step[1] for step in steps] == sorted(step[1] for step in steps)
    assert steps[-1] == ("x.bin", len(CONTENT), len(CONTENT))
    assert len(steps) > 3


def test_what_is_there_and_right_is_not_asked_for_again(tmp_path, server, one_file):
    fetch("tiny", tmp_path)
    fetch("tiny", tmp_path)
    assert len(server.seen) == 1


def test_a_broken_connection_leaves_no_file_and_the_next_run_goes_on_from_there(tmp_path, server, one_file):
    server.stop_after = 3_000_000
    with pytest.raises(ReadError, match=r"x.bin: .*run the same again to go on"):
        fetch("tiny", tmp_path)
    assert names(tmp_path) == [".x.bin.part"]
    server.stop_after = None
    fetch("tiny", tmp_path)
    have = int(server.seen[1].range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < have <= 3_000_000
    assert (tmp_path / "tiny" / "x.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["x.bin"]


def test_a_server_that_cannot_go_on_starts_again(tmp_path, server, one_file):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".x.bin.part").write_bytes(b"not its beginning" * 100)
    server.ranges = False
    fetch("tiny", tmp_path)
    assert (tmp_path / "tiny" / "x.bin").read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_only_checked(tmp_path, server, one_file):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".x.bin.part").write_bytes(CONTENT)
    fetch("tiny", tmp_path)
    assert server.seen == []
    assert names(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_going_on_from_a_wrong_beginning_is_found_out_and_thrown_away(tmp_path, server, one_file, size):
    one_file(size=size)
    part = tmp_path / "tiny" / ".x.bin.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    with pytest.raises(ReadError, match=r"x.bin: sha256 .*, expected") as caught:
        fetch("tiny", tmp_path)
    assert caught.value.reason == "wrong_checksum"
    assert names(tmp_path) == []
    part.write_bytes(b"x" * (len(CONTENT) + 5))  # more than there is: the server answers 416
    with pytest.raises(ReadError, match="no part of it and is gone"):
        fetch("tiny", tmp_path)
    fetch("tiny", tmp_path)
    assert names(tmp_path) == ["x.bin"]


def test_a_changed_file_is_refused_before_it_is_loaded_where_its_size_is_known(tmp_path, server, one_file):
    server.content = CONTENT[:-1]
    with pytest.raises(ReadError, match="5,119,999 bytes, expected 5,120,000; the file has changed there"):
        fetch("tiny", tmp_path)
    one_file(size=None)
    with pytest.raises(ReadError, match="it is not the official file"):
        fetch("tiny", tmp_path)
    assert names(tmp_path) == []


def test_an_answer_without_a_length_is_checked_by_what_is_known(tmp_path, server, one_file):
    server.length = False
    fetch("tiny", tmp_path)
    assert names(tmp_path) == ["x.bin"]
    server.content = CONTENT + bytes(5_000_000)  # it never ends: not more than a chunk too many is taken
    (tmp_path / "tiny" / "x.bin").unlink()
    with pytest.raises(ReadError, match="more than 5,120,000 bytes"):
        fetch("tiny", tmp_path)
    assert names(tmp_path) == []


def test_the_server_may_refuse_or_not_be_there(tmp_path, server, one_file, monkeypatch):
    server.status = 404
    with pytest.raises(ReadError, match="the server answers 404 Not Found; see --from"):
        fetch("tiny", tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        one_file(url=f"http://127.0.0.1:{free.getsockname()[1]}/x.bin")
        with pytest.raises(ReadError, match=r"cannot be had .*refused"):
            fetch("tiny", tmp_path)
        free.listen()  # takes the call and never answers
        monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
        with pytest.raises(ReadError, match=r"cannot be had .*timed out"):
            fetch("tiny", tmp_path)
    assert names(tmp_path) == []


def test_no_room_is_said_before_anything_is_written(tmp_path, server, one_file, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with pytest.raises(ReadError, match="5,120,000 bytes to come and room for 1,000"):
        fetch("tiny", tmp_path)
    assert names(tmp_path) == []


def test_a_missing_checksum_is_said(tmp_path, server, one_file):
    said = []
    one_file(checksum="")
    fetch("tiny", tmp_path, say=said.append)
    one_file(checksum="", size=None)
    fetch("tiny", tmp_path, say=said.append)
    assert said == ["x.bin: no checksum is published, only its size was checked", "x.bin: no checksum is published"]


def test_contents_of_a_gzip_file_can_be_what_is_checked(tmp_path, server, one_file):
    """MNIST is about in gzip files of unlike bytes and like contents."""
    one_file(size=None, of_contents=True)
    for level in (1, 9):
        server.content = gzip.compress(CONTENT, level)
        fetch("tiny", tmp_path / str(level))
    server.content = gzip.compress(CONTENT + b"x")
    with pytest.raises(ReadError, match="sha256"):
        fetch("tiny", tmp_path / "other")
    server.content = gzip.compress(CONTENT)[:-4]
    with pytest.raises(ReadError, match="not a whole gzip file"):
        fetch("tiny", tmp_path / "cut")
    assert names(tmp_path) == ["x.bin", "x.bin"]


def test_local_files_are_taken_if_they_are_right_and_left_alone(tmp_path, server, one_file):
    local = tmp_path / "local"
    local.mkdir()
    with pytest.raises(ReadError, match=r"local/x.bin: no such file; expected it from http"):
        fetch("tiny", tmp_path / "to", local)
    (local / "x.bin").write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(ReadError, match=r"local/x.bin: sha256"):
        fetch("tiny", tmp_path / "to", local)
    assert names(tmp_path) == ["x.bin"]
    (local / "x.bin").write_bytes(CONTENT)
    fetch("tiny", tmp_path / "to", local)
    assert (tmp_path / "to" / "tiny" / "x.bin").read_bytes() == CONTENT
    assert server.seen == []


def test_a_wrong_file_that_is_already_there_is_named_and_not_replaced(tmp_path, server, one_file):
    target = tmp_path / "tiny" / "x.bin"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(ReadError, match=r"tiny/x.bin: 4 bytes, expected 5,120,000"):
        fetch("tiny", tmp_path)
    assert target.read_bytes() == b"mine"


def test_what_a_person_must_download_says_so_and_is_taken_from_a_folder(tmp_path, server, one_file):
    one_file(by_hand=True)
    with pytest.raises(ReadError, match=r"only a person can download it, from http.*x.bin ; then: copdvae data fetch tiny --from FOLDER"):
        fetch("tiny", tmp_path)
    (tmp_path / "x.bin").write_bytes(CONTENT)
    fetch("tiny", tmp_path, tmp_path)
    assert server.seen == []


FILES = {
    "data/cars/list.txt": b"a",
    "data/cars/deep/b.mat": b"b",
    "data/other.txt": b"c",
    "data/cars/../evil.txt": b"d",
    "/data/cars/e": b"e",
}


def tar(path, compression="gz"):
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("data/cars/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def zipped(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(("name", "write"), [("x.tar.gz", tar), ("x.tar", lambda path: tar(path, "")), ("x.zip", zipped)])
def test_an_archive_gives_its_folder_and_nothing_outside_of_it(tmp_path, name, write):
    target = unpack(write(tmp_path / name), "data/cars", tmp_path / "to")
    assert target == tmp_path / "to" / "cars"
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()} == {
        name, "to/cars/list.txt", "to/cars/deep/b.mat"
    }  # fmt: skip
    assert (target / "deep" / "b.mat").read_bytes() == b"b"


@pytest.mark.parametrize(("name", "write"), [("x.tar.gz", tar), ("x.zip", zipped)])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_broken_archive_leaves_nothing(tmp_path, name, write, share):
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ReadError, match=r"x\..*: not a whole archive"):
        unpack(path, "data/cars", tmp_path / "to")
    assert names(tmp_path) == [name]


def test_an_archive_of_something_else_is_refused(tmp_path):
    with pytest.raises(ReadError, match="no file below CroppedYale in it"):
        unpack(zipped(tmp_path / "x.zip"), "CroppedYale", tmp_path / "to")


def test_an_archive_is_fetched_checked_and_unpacked_once(tmp_path, server, one_file):
    server.content = tar(tmp_path / "x.tar.gz").read_bytes()
    one_file(size=len(server.content), checksum=f"md5:{hashlib.md5(server.content).hexdigest()}", unpack="data/cars")
    for _ in range(2):
        folder = fetch("tiny", tmp_path / "to")
    assert names(folder) == ["b.mat", "list.txt", "x.bin"]


def test_every_set_has_a_command_and_says_how_its_files_are_checked():
    assert set(typing.get_args(ImageSetName)) == set(SOURCES)
    for sources in SOURCES.values():
        for source in sources:
            assert source.url.startswith(("https://", "http://"))
            kind, _, digest = source.checksum.partition(":")
            assert (kind, len(digest)) in (("sha256", 64), ("md5", 32), ("", 0))


def test_the_command_prints_the_folder_and_a_mistake_is_one_line(tmp_path, server, monkeypatch):
    monkeypatch.setitem(SOURCES, "yale", (Source(f"{server.url}/x", "x", None, f"sha256:{DIGEST}"),))
    result = CliRunner().invoke(app, ["data", "fetch", "yale", "--to", str(tmp_path)])
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'yale'}\n"
    assert (tmp_path / "yale" / "x").read_bytes() == CONTENT
    assert CliRunner().invoke(app, ["data", "fetch", "nonsense"]).exit_code == 2


@pytest.mark.data
def test_the_real_mnist_and_fashion_mnist_have_the_published_checksums(real_data, tmp_path):
    for name in ("mnist", "fashion_mnist"):
        assert len(names(fetch(name, tmp_path, real_data / "images" / name))) == 4
    with pytest.raises(ReadError):
        fetch("fashion_mnist", tmp_path / "other", real_data / "images" / "mnist")
