"""Tar shards as streams: equal to reading at random, and never silently short."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from neuronym import probes
from neuronym.errors import (
    InputError,
    MissingError,
    NeuronymError,
    UnavailableError,
    UnknownNameError,
    UnreadableError,
)
from probes_pictures import encoded, jpeg, photo


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def scenes_tar(path: Path, indices: range) -> Path:
    """Scenes as JPEG files with their classes; the third image of a shard is broken."""
    scenes = probes.load("scenes:12")
    members = {"about.json": b"{}", "._hidden.jpg": b"finder"}
    for index in indices:
        broken = index == indices[0] + 2
        data = b"broken" if broken else encoded(scenes.image(index), "JPEG")
        members[f"s{index:02d}.jpg"] = data
        members[f"s{index:02d}.cls"] = str(int(scenes.labels[index])).encode()
        members[f"s{index:02d}.txt"] = b"a caption"
    return tar(path, members)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(3):
        scenes_tar(tmp_path / "web" / f"part-{number}.tar", range(number * 4, number * 4 + 4))
    return tmp_path / "web"


def seen(stream: probes.Batches) -> tuple[list[tuple], NeuronymError | None]:
    """Key, id, label and bytes of every image, and the error that ended the stream."""
    rows: list[tuple] = []
    try:
        for batch in stream:
            pixels = [image.tobytes() for image in batch.images]
            rows += zip(
                batch.indices.tolist(), batch.ids, batch.labels.tolist(), pixels, strict=True
            )
    except NeuronymError as error:
        return rows, error
    return rows, None


def open_one(path: Path | str, **options: object) -> probes.Batches:
    return probes.load_pieces(f"stream:webdataset:{path}").open(0, batch_size=2, **options)


@pytest.mark.parametrize("web", [False, True])
def test_a_stream_gives_what_reading_at_random_gives(
    shards: Path,
    web: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    web_folder: Callable[[Path], str],
) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path / "cache"))
    place = web_folder(shards) if web else str(shards)
    pieces = probes.load_pieces(f"stream:webdataset:{place}/part-{{0..2}}.tar")
    assert isinstance(pieces, probes.Pieces)
    assert (pieces.count, pieces.total, pieces.length(1)) == (3, None, None)
    whole = probes.load(f"webdataset:{shards}/part-*.tar")
    at = {name: index for index, name in enumerate(whole.ids)}
    for piece in range(3):
        stream = pieces.open(piece, batch_size=2)
        rows, error = seen(stream)
        assert error is None
        assert [key - piece * 2**32 for key, *_ in rows] == [0, 1, 3]
        for _, name, label, pixels in rows:
            prefix, key = name.split("/")
            assert prefix == f"part-{piece}"
            assert pixels == whole.image(at[key]).tobytes()
            assert label == whole.labels[at[key]]
        assert [(s.index, s.id) for s in stream.skipped] == [
            (piece * 2**32 + 2, f"part-{piece}/s{piece * 4 + 2:02d}")
        ]
        assert stream.end == 4
    assert not (tmp_path / "cache").exists()


def test_a_shard_goes_on_where_it_stopped(shards: Path) -> None:
    pieces = probes.load_pieces(f"stream:webdataset:{shards}/part-1.tar")
    every = [name for batch in pieces.open(0, batch_size=1) for name in batch.ids]
    ends = [batch.end for batch in pieces.open(0, batch_size=1)]
    assert ends == [1, 2, 4]
    for done, end in enumerate(ends, start=1):
        rest = pieces.open(0, batch_size=1, skip=end)
        assert [name for batch in rest for name in batch.ids] == every[done:]
        assert len(rest.skipped) == (1 if end <= 2 else 0)
    _, error = seen(pieces.open(0, skip=5))
    assert isinstance(error, UnreadableError)
    assert "has 4 images, not the 5 that were read before; it has changed" in str(error)


@pytest.mark.parametrize("web", [False, True])
def test_the_fingerprint_follows_the_bytes(
    shards: Path, web: bool, web_folder: Callable[[Path], str]
) -> None:
    place = web_folder(shards) if web else str(shards)

    def now(pattern: str = "part-{0,1}.tar") -> str:
        return probes.load_pieces(f"stream:webdataset:{place}/{pattern}").fingerprint

    before = now()
    assert before == now()
    assert before != now("part-{1,0}.tar")
    tar(shards / "part-1.tar", {f"{n}.jpg": jpeg(n) for n in range(30)})
    assert before != now()


def damaged(shard: bytes, how: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        members = {member.name: member for member in archive}
    third = members["c.jpg"]
    if how == "header":
        return shard[: third.offset] + b"\xff" * 512 + shard[third.offset + 512 :]
    if how == "inside":
        return shard[: third.offset_data + third.size // 2]
    if how == "inside the header":
        return shard[: third.offset + 100]
    if how == "between":
        return shard[: third.offset]
    return shard + shard  # "twice"


DAMAGES = {
    "header": r"has a broken member header after 'b\.jpg'; images read: 2",
    "inside": r"ends early, inside 'c\.jpg': it has \d+ bytes; images read: 2",
    "inside the header": r"ends early, after 'b\.jpg': it has no mark .*; images read: 2",
    "between": r"ends early, after 'b\.jpg': it has no mark that ends it; images read: 2",
    "twice": r"goes on after the mark that ends it, .* after 'c\.jpg'; images read: 3",
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_shard_is_an_error_after_its_good_images(
    tmp_path: Path, how: str, workers: int
) -> None:
    path = tar(tmp_path / "x.tar", {f"{name}.jpg": jpeg(n) for n, name in enumerate("abc")})
    path.write_bytes(damaged(path.read_bytes(), how))
    rows, error = seen(open_one(path, workers=workers))
    good = ["x/a", "x/b", "x/c"] if how == "twice" else ["x/a", "x/b"]
    assert [name for _, name, *_ in rows] == good
    assert isinstance(error, UnreadableError)
    assert str(error).startswith(f"shard {str(path)!r} ")
    with pytest.raises(UnreadableError, match=DAMAGES[how]):
        raise error


@pytest.mark.parametrize("kind", ["empty", "text", "gzip"])
def test_what_is_no_tar_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tar"
    if kind == "gzip":
        tar(path, {"a.jpg": jpeg(0)}, mode="w:gz")
    else:
        path.write_bytes(b"" if kind == "empty" else b"hello " * 300)
    rows, error = seen(open_one(path))
    assert rows == []
    assert isinstance(error, UnreadableError)
    assert "is not a whole, uncompressed tar file" in str(error)


class Faulty(BaseHTTPRequestHandler):
    """Serves the server's `data`, and breaks off in the middle."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        data: bytes = self.server.data  # type: ignore[attr-defined]
        self.close_connection = True
        self.send_response(200)
        if self.path == "/chunked.tar":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n" % len(data) + data[:1500])
            return
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if self.path == "/whole.tar" else data[:1500])


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    path = tar(tmp_path / "x.tar", {f"{n}.jpg": encoded(photo(n), "BMP") for n in range(2)})
    small = tar(tmp_path / "y.tar", {"0.jpg": b"tiny", "1.jpg": encoded(photo(1), "BMP")})
    assert path.stat().st_size > 4000
    server.data = small.read_bytes()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut.tar", r"broke off after 1500 of \d+ bytes; images read: 1"),
        ("chunked.tar", r"broke off after byte \d+: .*; images read: 1"),
    ],
)
def test_a_connection_that_breaks_off_is_an_error(faulty: str, name: str, message: str) -> None:
    stream = open_one(f"{faulty}/{name}")
    with pytest.raises(UnavailableError, match=message):
        list(stream)
    assert [skipped.id for skipped in stream.skipped] == [f"{name[:-4]}/0"]


def test_a_server_that_answers_only_get_is_asked_so(faulty: str) -> None:
    pieces = probes.load_pieces(f"stream:webdataset:{faulty}/whole.tar")
    assert len(pieces.fingerprint) == 16
    rows, error = seen(pieces.open(0))
    assert error is None
    assert [name for _, name, *_ in rows] == ["whole/1"]


def test_addresses_that_cannot_be_reached(
    tmp_path: Path, web_folder: Callable[[Path], str]
) -> None:
    gone = probes.load_pieces(f"stream:webdataset:{web_folder(tmp_path)}/none.tar")
    _, error = seen(gone.open(0))
    assert isinstance(error, UnavailableError)
    assert "none.tar' cannot be reached here: HTTP Error 404" in str(error)
    with pytest.raises(UnavailableError, match="cannot be reached here"):
        _ = gone.fingerprint
    with ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as closed:
        port = closed.server_address[1]
    _, error = seen(open_one(f"http://127.0.0.1:{port}/x.tar"))
    assert isinstance(error, UnavailableError)


def test_ids_are_unique_over_shards(tmp_path: Path) -> None:
    for name in ("a/x", "b/x", "b/y"):
        tar(tmp_path / f"{name}.tar", {"0.jpg": jpeg(0)})

    def ids(pattern: str) -> list[str]:
        pieces = probes.load_pieces(f"stream:webdataset:{tmp_path}/{pattern}.tar")
        return [next(pieces.open(piece)).ids[0] for piece in range(pieces.count)]

    assert ids("b/{x,y}") == ["x/0", "y/0"]
    assert ids("{a,b}/x") == ["x#0/0", "x#1/0"]


def test_a_sample_in_two_places_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a.jpg": jpeg(0), "b.jpg": jpeg(1), "a.cls": b"1"})
    rows, error = seen(open_one(path))
    assert [name for _, name, *_ in rows] == ["x/a", "x/b"]
    assert isinstance(error, UnreadableError)
    assert "the members of sample 'a' do not lie side by side" in str(error)


def test_a_class_that_is_no_number_is_refused(tmp_path: Path) -> None:
    _, error = seen(open_one(tar(tmp_path / "x.tar", {"a.jpg": jpeg(0), "a.cls": b"dog"})))
    assert isinstance(error, UnreadableError)
    assert "the class of 'a' is b'dog', not a whole number" in str(error)


def test_a_reader_that_stops_leaves_no_thread(shards: Path) -> None:
    with open_one(shards / "part-0.tar", workers=2) as stream:
        next(stream)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("neuronym-decode", "neuronym-read"))]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("stream:webdataset:none-*.tar", MissingError, "no shard matches"),
        ("stream:webdataset:none.tar", MissingError, "does not exist"),
        ("stream:webdataset:{a.tar", InputError, "unmatched brace"),
        ("stream:webdataset:", InputError, "must be stream:webdataset:URL_PATTERN or"),
        ("stream:hf", InputError, "must be stream:webdataset:URL_PATTERN or"),
        ("stream:webdatset:x.tar", UnknownNameError, "Did you mean 'stream:webdataset'"),
    ],
)
def test_specs_that_cannot_be_used(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        probes.load_pieces(spec)


def test_a_stream_is_no_probe_set() -> None:
    with pytest.raises(InputError, match="a stream, which is read only from front to back"):
        probes.load("stream:webdataset:x.tar")
