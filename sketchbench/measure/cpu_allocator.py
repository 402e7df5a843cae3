"""The CPU allocator's own counters: bytes requested from c10 by this process, all threads.

torch keeps such counters on CUDA alone. A small library, built once with the system's C++
compiler, wraps the CPU allocator and counts what it hands out: tensors, and the scratch memory
that kernels ask it for. Not seen, because that allocator isn't asked: memory that others own
(`torch.from_numpy`, files and shared memory mapped into a process), pinned memory, a bare
`torch.UntypedStorage(n)`, and what MKL, oneDNN or OpenMP allocate by themselves. A storage made
before `install` stays with the allocator that it was made with, even when it is resized.

It costs: a storage that is given 64 bytes and loses them again takes 1.24 times as long (median
of 40 interleaved pairs of CPU times, 5 % to 95 %: 1.19 to 1.30), `torch.empty(16)` 1.1 times. So
it has no place in a pass that measures time.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from sketchbench.protocols import Missing

COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 600.0  # seconds that a compiler may take: a machine may be busy, a compiler may hang
SOURCE = Path(__file__).with_suffix(".cpp")
WHAT = "the CPU allocator's counters"

_turn = threading.Lock()
_answer: Counters | str | None = None  # the counters, or why there are none; asked once


class Counters:
    """Bytes requested from the CPU allocator since `install`, less those freed."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._current = library.counting_current
        self._peak = library.counting_peak
        self._reset_peak = library.counting_reset_peak
        self._current.restype = self._peak.restype = ctypes.c_int64
        self._reset_peak.restype = None

    def current(self) -> int:
        """Return the bytes in blocks that are alive and were allocated after `install`."""
        return int(self._current())

    def peak(self) -> int:
        """Return the most that `current` has been since `install` or the last `reset_peak`."""
        return int(self._peak())

    def reset_peak(self) -> None:
        """Let the peak start again from what is alive."""
        self._reset_peak()


def install() -> Counters:
    """Count this process's CPU allocations from now on; a second call returns the same counters.

    The first call on a machine compiles for some seconds; no other thread may allocate tensors
    while the allocator is replaced. A forked child goes on with counters of its own. Raises
    `Missing` where no compiler is found, or it or what it made fails; that answer too is the
    same for as long as the process lives.
    """
    global _answer
    with _turn:
        if _answer is None:
            try:
                _answer = Counters(_installed())
            except Missing as missing:
                _answer = str(missing)
        if isinstance(_answer, str):
            raise Missing(_answer)
        return _answer


def _installed() -> ctypes.CDLL:
    library = _load()
    refusal = library.counting_install()
    if refusal:
        why = {
            1: "the allocator in place doesn't say how its blocks are freed",
            2: "the allocator in place has the highest priority and can't be replaced",
        }
        raise Missing(f"{WHAT}: {why[refusal]}")
    return library


# ---------------------------------------------------------------- the library, built or cached


def _load() -> ctypes.CDLL:
    """Return the library from the cache, or built: in the cache, or else in a folder of its own."""
    import pooch

    compiler = _compiler()
    version = _run([*compiler, "--version"]).partition("\n")[0]
    command = [*compiler, *_flags()]
    key = _digest(SOURCE.read_bytes(), _torch_version(), version, *command)
    cache = Path(pooch.os_cache("sketchbench"))
    for built in sorted(cache.glob(f"cpu_allocator-{key}-*.so")):
        if (library := _sound(built)) is not None:
            return library
    try:
        return _build(command, key, cache)
    except OSError:  # the cache can't be written to, or nothing in it may be executed
        pass
    with tempfile.TemporaryDirectory() as folder:  # a loaded library needs its file no more
        try:
            return _build(command, key, Path(folder))
        except OSError as error:
            raise Missing(f"{WHAT}: what was built can't be loaded: {_line(str(error))}") from error


def _build(command: Sequence[str], key: str, folder: Path) -> ctypes.CDLL:
    """Compile to a temporary name; what can be loaded moves to a name with its digest in it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".so.part", dir=folder)
    os.close(handle)
    part = Path(name)
    try:
        _run([*command, "-o", name])
        library = _opened(part)
        part.rename(folder / f"cpu_allocator-{key}-{_digest(part.read_bytes())}.so")
        return library
    finally:
        part.unlink(missing_ok=True)


def _sound(built: Path) -> ctypes.CDLL | None:
    """Open a cached library; one that isn't what its name says is never given to the loader."""
    try:
        whole = built.stem.endswith(_digest(built.read_bytes()))
        return _opened(built) if whole else None
    except OSError:
        return None


def _opened(path: Path) -> ctypes.CDLL:
    import torch  # noqa: F401  # the library refers to c10, which must be here before it

    return ctypes.CDLL(str(path))


# ---------------------------------------------------------------- the compiler


def _compiler() -> list[str]:
    """Return `$CXX` as words, or the first of the usual names on the path."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    if wanted:
        if shutil.which(wanted[0]) is None:
            raise Missing(f"{WHAT}: no C++ compiler: $CXX is '{wanted[0]}', which isn't found")
        return wanted
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    looked = ", ".join(COMPILERS)
    raise Missing(f"{WHAT}: no C++ compiler: looked for $CXX and {looked}")


def _flags() -> list[str]:
    """Return the compiler's arguments, all but where the library goes."""
    import torch
    from torch.utils.cpp_extension import include_paths, library_paths

    flags = ["-std=c++20", "-O2", "-fPIC", "-shared", "-pthread"]
    flags += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    flags += [f"-I{folder}" for folder in include_paths()]
    flags += [str(SOURCE)]
    for folder in library_paths():
        flags += [f"-L{folder}", f"-Wl,-rpath,{folder}"]
    return [*flags, "-lc10"]


def _torch_version() -> str:
    import torch

    return f"{torch.__version__} {torch.version.git_version}"


def _run(words: Sequence[str]) -> str:
    """Run the compiler and return what it printed; raise `Missing` with its first error."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{WHAT}: '{words[0]}' gave no answer in {PATIENCE:g} s") from error
    except OSError as error:
        raise Missing(f"{WHAT}: '{words[0]}' can't be run: {_line(str(error))}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line.lower()), (lines or [""])[0])
        said = f": {_line(said)}" if said else ""
        raise Missing(f"{WHAT}: '{words[0]}' failed with status {done.returncode}{said}")
    return done.stdout


def _digest(*parts: str | bytes) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()[:16]


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
