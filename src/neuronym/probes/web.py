"""Files read once from front to back, from disk or over http, with what identifies them."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from neuronym.errors import UnavailableError, UnreadableError
from neuronym.probes.folder import sampled_digest
from neuronym.probes.shards import is_address

__all__ = ["Forward", "identity_of"]

_SECONDS = 60.0
_CHUNK = 1 << 20
_NO_HEAD = (403, 405, 501)  # a signed address may be signed for GET alone
_IDENTIFYING = ("Content-Length", "ETag", "Last-Modified")


def _request(place: str, method: str) -> Any:
    request = urllib.request.Request(place, method=method)
    try:
        return urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"shard {place!r} cannot be reached here: {error}") from error


def _answer(place: str, method: str = "GET") -> Any:
    try:
        return _request(place, method)
    except urllib.error.HTTPError as error:
        if method == "HEAD" and error.code in _NO_HEAD:
            return _answer(place)
        raise UnavailableError(f"shard {place!r} cannot be reached here: {error}") from error


def identity_of(place: str) -> list[str | None]:
    """Return what identifies a file: of its bytes on disk, of its headers on the web.

    Raises:
        UnavailableError: An address cannot be reached.
    """
    if not is_address(place):
        return [sampled_digest(Path(place))]
    with _answer(place, "HEAD") as answer:
        return [place, *(answer.headers.get(name) for name in _IDENTIFYING)]


class Forward:
    """A file that is read forward only, as :class:`tarfile.TarFile` needs it.

    Attributes:
        place: Path or address.
        length: Number of bytes, or ``None`` where a server does not say.
        last: What the last :meth:`read` gave.

    Raises:
        UnavailableError: An address cannot be reached, or breaks off.
        UnreadableError: A file cannot be read.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.length: int | None
        self.last = b""
        self._at = 0
        self._web = is_address(place)
        if self._web:
            self._file = _answer(place)
            stated = self._file.headers.get("Content-Length")
            self.length = int(stated) if stated is not None and stated.isdecimal() else None
        else:
            try:
                self._file = open(place, "rb")  # noqa: SIM115
                self.length = os.fstat(self._file.fileno()).st_size
            except OSError as error:
                raise UnreadableError(
                    f"shard {place!r} cannot be read: {error.strerror}"
                ) from error

    def __enter__(self) -> Forward:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def tell(self) -> int:
        """Return the number of bytes that lie behind."""
        return self._at

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only at the end of the file."""
        parts: list[bytes] = []
        left = size
        while left:
            part = self._part(left)
            if not part:
                self._check_whole(size - left)
                break
            parts.append(part)
            left -= len(part)
        self.last = parts[0] if len(parts) == 1 else b"".join(parts)
        self._at += len(self.last)
        return self.last

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go on to ``place``, which does not lie behind; on the web what is between is read."""
        if whence != os.SEEK_SET or place < self._at:
            raise UnreadableError(f"shard {self.place!r} is read forward only")
        if not self._web:
            self._file.seek(place)
            self._at = place
            return place
        while self._at < place and self.read(min(_CHUNK, place - self._at)):
            pass
        return self._at

    def _check_whole(self, more: int) -> None:
        at = self._at + more
        if self._web and self.length is not None and at < self.length:
            raise UnavailableError(
                f"shard {self.place!r} broke off after {at} of {self.length} bytes"
            )

    def _part(self, size: int) -> bytes:
        try:
            part: bytes = self._file.read(size)
            return part
        except (OSError, http.client.HTTPException) as error:
            if self._web:
                raise UnavailableError(
                    f"shard {self.place!r} broke off after byte {self._at}: {error}"
                ) from error
            raise UnreadableError(f"shard {self.place!r} cannot be read: {error}") from error
