"""Downloads from a real server that breaks off, forgets ranges, changes its mind or lies."""

import hashlib
import http.server
import re
import threading
from dataclasses import dataclass, field

import pytest

from pipeline.core.errors import DataError, UsageError
from pipeline.io.download import Source, fetch, md5_of

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class Behavior:
    """What the server does; it notes the Range header of every request."""

    content: bytes = CONTENT
    tag: str = '"v1"'
    knows_ranges: bool = True
    # Bytes after which a response ends early, one per request; then responses are whole.
    breaks: list[int] = field(default_factory=list)
    status: int = 200
    has_length: bool = True
    wrong_range: bool = False
    ranges: list[str] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    behavior: Behavior

    def do_GET(self):
        do = self.behavior
        asked = self.headers.get("Range", "")
        do.ranges.append(asked)
        if do.status != 200:
            self.send_error(do.status)
            return
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", asked)
        if match and do.knows_ranges and self.headers.get("If-Range") == do.tag:
            start = int(match[1])
            if start >= len(do.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(do.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            first = start + 1 if do.wrong_range else start
            last = len(do.content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(do.content)}")
        else:
            self.send_response(200)
        body = do.content[start:]
        if do.has_length:
            self.send_header("Content-Length", str(len(body)))
        if do.tag:
            self.send_header("ETag", do.tag)
        self.end_headers()
        self.wfile.write(body[: do.breaks.pop(0)] if do.breaks else body)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(**behavior):
        do = Behavior(**behavior)
        handler = type("OneHandler", (Handler,), {"behavior": do})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return do, f"http://127.0.0.1:{server.server_port}/a.tar"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def source(url, content=CONTENT, **options):
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Source(url, md5, **{"wait_s": 0.01, "n_tries": 3, **options})


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_fetched_once(serve, tmp_path):
    do, url = serve()
    file = tmp_path / "new" / "a.tar"
    assert fetch(source(url), file) == file
    assert file.read_bytes() == CONTENT
    assert names(file.parent) == ["a.tar"]
    fetch(source(url), file)
    assert do.ranges == [""]


def test_broken_transfers_go_on_where_they_stopped(serve, tmp_path):
    do, url = serve(breaks=[262_144, 0, 0, 196_608])
    fetch(source(url), tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    # Two tries without a byte are not the end; progress starts the count anew.
    assert do.ranges == ["", *["bytes=262144-"] * 3, "bytes=458752-"]


def test_another_run_goes_on(serve, tmp_path):
    do, url = serve(breaks=[262_144, 0, 0, 0])
    with pytest.raises(DataError, match="failed 3 times without progress") as raised:
        fetch(source(url), tmp_path / "a.tar")
    assert "goes on where it stopped" in raised.value.fix
    assert names(tmp_path) == ["a.tar.part", "a.tar.part.json"]
    do.breaks.clear()
    fetch(source(url), tmp_path / "a.tar")
    assert do.ranges[-1] == "bytes=262144-"
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_anew(serve, tmp_path):
    do, url = serve(breaks=[262_144, 0, 0, 0])
    with pytest.raises(DataError):
        fetch(source(url), tmp_path / "a.tar")
    do.breaks.clear()
    do.content, do.tag = CONTENT[::-1], '"v2"'
    fetch(source(url, CONTENT[::-1]), tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("without", [{"knows_ranges": False}, {"tag": ""}])
def test_a_server_without_ranges_or_versions_starts_again(serve, tmp_path, without):
    _, url = serve(breaks=[262_144], **without)
    fetch(source(url), tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_at_the_same_place_ends(serve, tmp_path):
    do, url = serve(knows_ranges=False, breaks=[262_144] * 9)
    with pytest.raises(DataError, match="without progress"):
        fetch(source(url), tmp_path / "a.tar")
    assert len(do.ranges) == 4


def test_a_complete_part_is_only_checked(serve, tmp_path):
    do, url = serve()
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    (tmp_path / "a.tar.part.json").write_text('{"version": "\\"v1\\""}')
    fetch(source(url), tmp_path / "a.tar")
    assert do.ranges == [f"bytes={len(CONTENT)}-"]
    assert names(tmp_path) == ["a.tar"]


def test_a_part_that_is_too_long_is_thrown_away(serve, tmp_path):
    _, url = serve()
    (tmp_path / "a.tar.part").write_bytes(CONTENT + b"more")
    (tmp_path / "a.tar.part.json").write_text('{"version": "\\"v1\\""}')
    fetch(source(url), tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_wrong_checksum_is_kept_apart(serve, tmp_path):
    _, url = serve(content=b"<html>not found</html>")
    with pytest.raises(DataError, match="checksum is wrong") as raised:
        fetch(source(url), tmp_path / "a.tar")
    assert raised.value.where == url
    assert names(tmp_path) == ["a.tar.wrong"]


def test_a_damaged_file_is_fetched_again(serve, tmp_path):
    _, url = serve()
    (tmp_path / "a.tar").write_bytes(CONTENT[:-1])
    fetch(source(url), tmp_path / "a.tar")
    assert md5_of(tmp_path / "a.tar") == source(url).md5


def test_no_length_is_fine(serve, tmp_path):
    _, url = serve(has_length=False)
    assert fetch(source(url), tmp_path / "a.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("has_length", [True, False])
def test_a_file_without_end_is_given_up(serve, tmp_path, has_length):
    _, url = serve(has_length=has_length)
    with pytest.raises(DataError, match="more than such"):
        fetch(source(url, max_bytes=1000), tmp_path / "a.tar")


def test_a_server_that_sends_another_range_is_refused(serve, tmp_path):
    _, url = serve(breaks=[262_144], wrong_range=True)
    with pytest.raises(DataError, match="another part"):
        fetch(source(url), tmp_path / "a.tar")


def test_no_room_is_said_before_anything_is_written(serve, tmp_path):
    _, url = serve()
    with pytest.raises(UsageError, match="GB are needed"):
        fetch(source(url, room_factor=1e9), tmp_path / "a.tar")
    assert names(tmp_path) == []


def test_answers_that_will_not_change_are_not_asked_for_again(serve, tmp_path):
    do, url = serve(status=404)
    with pytest.raises(DataError, match="answers 404") as raised:
        fetch(source(url), tmp_path / "a.tar")
    assert "--url" in raised.value.fix
    assert len(do.ranges) == 1
    do, url = serve(status=503)
    with pytest.raises(DataError, match="503"):
        fetch(source(url), tmp_path / "a.tar")
    assert len(do.ranges) == 3


def test_a_local_archive_stays_where_it_is(tmp_path):
    mirror = tmp_path / "mirror of ours" / "a.tar"
    mirror.parent.mkdir()
    mirror.write_bytes(CONTENT)
    assert fetch(source(mirror.as_uri()), tmp_path / "x" / "a.tar") == mirror
    assert not (tmp_path / "x").exists()
    mirror.write_bytes(b"other")
    with pytest.raises(DataError, match="checksum"):
        fetch(source(mirror.as_uri()), tmp_path / "a.tar")
    assert mirror.read_bytes() == b"other"
    with pytest.raises(UsageError, match="no such file"):
        fetch(source((tmp_path / "none.tar").as_uri()), tmp_path / "a.tar")


@pytest.mark.parametrize("url", ["ftp://host/a.tar", "a.tar", "s3://bucket/a.tar"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(UsageError, match="address of kind"):
        fetch(source(url), tmp_path / "a.tar")


def test_nobody_there_is_said_in_words(tmp_path):
    with pytest.raises(DataError, match="refused"):
        fetch(source("http://127.0.0.1:9/a.tar", n_tries=1), tmp_path / "a.tar")
