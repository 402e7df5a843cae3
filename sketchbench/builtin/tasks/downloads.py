"""Downloads: official archives over HTTP, checked, with progress about once a second."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces
CHUNK = 1 << 16

Progress = Callable[[str], None]


class Unreachable(Exception):
    """The download did not come to an end; the text is the reason."""


def throttled(progress: Progress, seconds: float = 1.0) -> Progress:
    """Return `progress` with all but one call in `seconds` left out."""
    last = -float("inf")

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            progress(text)

    return say


def fetch(url: str, known_hash: str | None, folder: Path, progress: Progress) -> Path:
    """Download `url` into `folder` and return its path.

    Raises `Unreachable` where the server can't be reached or doesn't answer to the end, and
    `RuntimeError` where what it sent isn't what was published.
    """
    import pooch
    import requests

    name = url.rpartition("/")[2]
    meter = _Meter(name, progress)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # its own announcements go to standard error
    try:
        fetched = pooch.retrieve(
            url,
            known_hash,
            fname=name,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=TIMEOUT),
        )
    except requests.exceptions.RequestException as error:
        raise Unreachable(_reason(error)) from error
    except ValueError as error:
        raise RuntimeError(f"{url}: what was downloaded is damaged: {_line(error)}") from error
    finally:
        logger.setLevel(level)
    return Path(fetched)


class _Meter:
    """What pooch takes for a progress bar: it counts bytes and speaks in lines."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.total = 0
        self._name = name
        self._say = throttled(progress)
        self._done = 0

    def update(self, count: int) -> None:
        """Add bytes; pooch counts whole chunks, the last one too."""
        self._done += count
        done = min(self._done, self.total) if self.total else self._done
        whole = f" of {self.total / 1e6:.0f}" if self.total else ""
        self._say(f"downloading {self._name}: {done / 1e6:.0f}{whole} MB")

    def reset(self) -> None:
        """Forget what was counted."""
        self._done = 0

    def close(self) -> None:
        """Nothing to close."""


def _reason(error: Exception) -> str:
    """Return the innermost cause of a failed request: outer ones repeat the address."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[0], BaseException):
        cause = cause.args[0]
    cause = getattr(cause, "reason", None) or cause
    text = _line(cause if isinstance(cause, BaseException) else error)
    return re.sub(r"^(<.*?>|HTTPS?Connection(Pool)?\(.*?\)): ", "", text)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
