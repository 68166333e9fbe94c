"""Model files from the Hugging Face hub: the local cache first, the network only if it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from neuronym.errors import InputError, UnavailableError, UnreadableError

__all__ = ["cached_or_fetched_file", "missing_weights", "one_line", "snapshot"]

WAIT_SECONDS = 8.0
SMALL_FILES = ("*.json", "*.txt", "*.model")
OFFLINE_HINT = "what works offline: 'pocket', a local model folder, a local checkpoint file"


def one_line(error: BaseException, *, limit: int = 200) -> str:
    """Return the text of a foreign error on one line of at most ``limit`` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def snapshot(
    repository: str,
    *,
    spec: str,
    lacks: Callable[[Path], str | None],
    weights: Sequence[Sequence[str]] = (),
) -> Path:
    """Return the local folder that holds a hub repository.

    Args:
        repository: ``"owner/name"``.
        spec: The SPEC that needs it, for messages.
        lacks: Says which needed file a folder lacks, or ``None`` where it is whole.
        weights: Groups of file patterns; the next group is fetched only while something lacks.

    Raises:
        InputError: ``repository`` is not a valid name.
        UnavailableError: It is not whole in the local cache, and the hub cannot be reached or
            does not hand it out.
        UnreadableError: The repository itself lacks a needed file.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except HFValidationError as error:
        raise InputError(f"{spec}: {one_line(error)}") from error
    except LocalEntryNotFoundError:
        folder = None
    if folder is not None and lacks(folder) is None:
        return folder
    _require_hub(spec, repository)
    missing: str | None = None
    try:
        for patterns in [SMALL_FILES, *weights]:
            folder = Path(snapshot_download(repository, allow_patterns=list(patterns)))
            missing = lacks(folder)
            if missing is None:
                return folder
    except Exception as error:  # the hub's own errors and those of whatever HTTP library it uses
        raise UnavailableError(f"{spec} could not be fetched: {one_line(error)}") from error
    raise UnreadableError(f"{spec}: the repository {repository!r} has no {missing}")


def cached_or_fetched_file(repository: str, names: Sequence[str], *, spec: str) -> Path:
    """Return the first of several alternative files of a repository that exists.

    Raises:
        UnavailableError: None is in the local cache, and the hub cannot be reached or has none.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    _require_hub(spec, repository)
    for name in names:
        fetched = _fetch(repository, name, spec)
        if fetched is not None:
            return fetched
    raise UnavailableError(f"{spec}: {repository!r} has none of {', '.join(names)}")


def _fetch(repository: str, name: str, spec: str) -> Path | None:
    """Download one file; ``None`` where the repository has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # as in `snapshot`
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        raise UnavailableError(f"{spec} could not be fetched: {one_line(error)}") from error


def missing_weights(folder: Path, names: Sequence[str]) -> str | None:
    """Return what is missing for weights to be whole: one file of ``names``, all its shards."""
    for name in names:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix != ".json":
            return None
        try:
            shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return f"readable {name}"
        absent = sorted(shard for shard in shards if not (folder / shard).is_file())
        return f"file {absent[0]}" if absent else None
    return f"weights ({' or '.join(names)})"


def _require_hub(spec: str, repository: str) -> None:
    """Raise :class:`UnavailableError` where the hub does not answer within a few seconds."""
    problem: list[str] = []

    def probe() -> None:
        problem[:] = [_hub_problem()]

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    reason = problem[0] if problem else f"no answer within {WAIT_SECONDS:g} s"
    if reason:
        raise UnavailableError(
            f"{spec} needs the network: {repository!r} is not in the local cache, and the hub "
            f"cannot be reached ({reason}); {OFFLINE_HINT}"
        )


def _hub_problem() -> str:
    """Return why the hub does not answer, or ``""``. Any answer, also an error page, counts."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=WAIT_SECONDS / 2)
    except Exception as error:  # the client library differs between versions, its errors too
        return one_line(error, limit=120)
    return ""
