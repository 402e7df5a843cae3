"""Archives: published data sets, found, fetched, unpacked once, and checked at every load."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sketchbench import Skip
from sketchbench.builtin.tasks.downloads import Progress, Unreachable, fetch, throttled

_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


@dataclass(frozen=True)
class Archive:
    """One published archive and the raw files in it; hashes are written `algorithm:hex`.

    Raw files are looked for in `$SKETCHBENCH_DATA/<data_set>` and in the cache; failing that, an
    archive of that folder is unpacked into the cache; failing that, the official one is fetched.
    """

    data_set: str
    wrappers: tuple[str, ...]  # names under which an archive is accepted
    url: str
    known_hash: str  # of what the address gives
    files: Mapping[str, str]  # the hash of each raw file
    unpacked: str = "."  # the folder that the archive unpacks to

    def read(self, name: str, progress: Progress = lambda text: None) -> bytes:
        """Return raw file `name`, verified.

        Raises `Skip` where it can't be had, `RuntimeError` where it is damaged.
        """
        path = self._find(name)
        if path is None:
            self._provide(progress)
            path = self._cached(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RuntimeError(f"{path}: {error.strerror}; is it readable?") from error
        _verify(data, self.files[name], str(path))
        return data

    def _find(self, name: str) -> Path | None:
        places = [self._cached(name)]
        if given := data_folder():
            here = given / self.data_set
            places = [here / self.unpacked / name, here / name, *places]
        return next((path for path in places if path.is_file()), None)

    def _cached(self, name: str) -> Path:
        return cache_folder() / self.data_set / name

    def _provide(self, progress: Progress) -> None:
        """Unpack into the cache, from the given folder or from the official address."""
        given = data_folder()
        for wrapper in self.wrappers if given else ():
            path = given / self.data_set / wrapper  # type: ignore[operator]
            if path.is_file():
                return self._unpack(path, progress)
        home = cache_folder() / self.data_set
        with _writing(home):
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home, prefix="download-") as folder:
                try:
                    path = fetch(self.url, self.known_hash, Path(folder), progress)
                except Unreachable as error:
                    raise Skip(
                        f"{self.data_set}: no data in {given or cache_folder()}; set "
                        f"SKETCHBENCH_DATA to a folder that holds {self.data_set}/"
                        f"{self.wrappers[0]}, or allow the download from {self.url} ({error})"
                    ) from error
                self._unpack(path, progress)

    def _unpack(self, path: Path, progress: Progress) -> None:
        """Put every raw file of the archive at `path` into the cache, each verified and whole."""
        progress(f"{self.data_set}: unpacking {path}")
        say, missing = throttled(progress), set(self.files)
        for name, data in _members(path, self.files):
            _verify(data, self.files[name], f"{path}, member {name}")
            _keep(self._cached(name), data)
            missing.discard(name)
            say(f"{self.data_set}: unpacked {name}, {len(missing)} to go")
            if not missing:
                return
        raise RuntimeError(f"{path}: damaged, it lacks {', '.join(sorted(missing))}")


def data_folder() -> Path | None:
    """Return the folder that SKETCHBENCH_DATA names, or None where it isn't set."""
    named = os.environ.get("SKETCHBENCH_DATA")
    return Path(named).expanduser() if named else None


def cache_folder() -> Path:
    """Return the folder for what was downloaded or unpacked: SKETCHBENCH_CACHE, or the user's."""
    if named := os.environ.get("SKETCHBENCH_CACHE"):
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("sketchbench"))


def _members(path: Path, files: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of each raw file in a tar of any compression, or in one gzip."""
    try:
        if ".tar" in path.suffixes:
            with tarfile.open(path) as tar:  # not as a stream: that reads the first of many
                for member in tar:
                    name = PurePosixPath(member.name).name
                    if name in files and (file := tar.extractfile(member)):
                        yield name, file.read()
        else:
            with gzip.open(path) as raw:
                yield path.stem, raw.read()
    except _BROKEN as error:
        raise RuntimeError(f"{path}: damaged, it doesn't unpack ({error})") from error


def _verify(data: bytes, known_hash: str, where: str) -> None:
    algorithm, _, expected = known_hash.partition(":")
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise RuntimeError(
            f"{where}: damaged; expected {known_hash}, found {algorithm}:{found}; delete it to "
            "have it fetched again"
        )


def _keep(path: Path, data: bytes) -> None:
    """Write a file that others see whole or not at all, however many write it at once."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # a cache may be shared; mkstemp is private
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say what to do where the cache can't be written: no space, or no permission."""
    try:
        yield
    except OSError as error:
        raise RuntimeError(
            f"{path}: {error.strerror or error}; set SKETCHBENCH_CACHE to a writable folder with "
            "space"
        ) from error
