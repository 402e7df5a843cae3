import os
import subprocess
import sys

import pytest

from sketchbench import Missing
from sketchbench.measure import cpu_allocator


def scripted(tmp_path, body):
    """Return a program that names a version when asked and does `body` otherwise."""
    script = tmp_path / "scripted"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo scripted 1.0 && exit 0\n{body}\n')
    script.chmod(0o755)
    return str(script)


# ---------------------------------------------------------------- built once, and soundly


def test_it_is_built_once_and_then_taken_from_the_cache(compiler, cache):
    cpu_allocator._load()
    (built,) = cache.iterdir()
    assert cpu_allocator._load()._name == str(built)
    assert compiler() == ["compiled"]


@pytest.mark.parametrize("damage", [b"", "half", "flipped"])
def test_a_damaged_file_is_built_again(compiler, cache, damage):
    cpu_allocator._load()
    (built,) = cache.iterdir()
    whole = built.read_bytes()
    flipped = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    broken = {"half": whole[: len(whole) // 2], "flipped": flipped}.get(damage, damage)
    built.unlink()  # the loader may still hold the old one
    built.write_bytes(broken)
    cpu_allocator._load()
    assert compiler() == ["compiled"] * 2
    assert cpu_allocator._load()._name in map(str, cache.iterdir())
    assert compiler() == ["compiled"] * 2


def test_another_compiler_builds_another_file(compiler, cache, tmp_path, monkeypatch):
    cpu_allocator._load()
    script = tmp_path / "cxx"
    changed = script.read_text().replace("--version) ;;", "--version) echo other 9; exit 0 ;;")
    script.write_text(changed)
    cpu_allocator._load()
    assert compiler() == ["compiled"] * 2
    assert len(list(cache.iterdir())) == 2


def test_processes_that_build_at_once_do_not_disturb_each_other(counters, tmp_path):
    code = "from sketchbench.measure.cpu_allocator import install; install().current()"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert not list(tmp_path.rglob("*.part"))
    assert list(tmp_path.rglob("cpu_allocator-*.so"))


def test_a_cache_that_cannot_be_written_to_is_done_without(compiler, cache):
    cache.parent.write_text("a file where a folder should be")
    library = cpu_allocator._load()
    assert library.counting_peak() == 0
    assert compiler() == ["compiled"]
    assert not os.path.exists(library._name)


# ---------------------------------------------------------------- no counters, and why


def refusal():
    with pytest.raises(Missing) as missing:
        cpu_allocator.install()
    text = str(missing.value)
    assert "\n" not in text
    assert text.startswith("the CPU allocator's counters: ")
    return text.removeprefix("the CPU allocator's counters: ")


def test_without_a_compiler_it_says_what_was_looked_for(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal() == "no C++ compiler: looked for $CXX and c++, g++, clang++"


def test_a_compiler_that_is_wanted_but_not_there_is_not_replaced(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    assert refusal() == "no C++ compiler: $CXX is 'no-such-compiler', which isn't found"


def test_a_failing_program_is_named_with_its_status(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    assert refusal() == "'false' failed with status 1"


def test_a_compile_error_is_told_by_its_first_line(fresh, tmp_path, monkeypatch):
    said = "echo note: in file >&2; echo 'a.cpp:3:1: error: no  luck' >&2; echo more >&2; exit 4"
    program = scripted(tmp_path, said)
    monkeypatch.setenv("CXX", program)
    assert refusal() == f"'{program}' failed with status 4: a.cpp:3:1: error: no luck"
    assert not list(fresh.iterdir())


def test_a_library_that_cannot_be_loaded_is_missing(fresh, tmp_path, monkeypatch):
    body = 'while [ "$1" != -o ]; do shift; done; echo rubbish >"$2"'
    monkeypatch.setenv("CXX", scripted(tmp_path, body))
    assert refusal().startswith("what was built can't be loaded: ")
    assert not list(fresh.iterdir())


def test_a_compiler_that_hangs_is_given_up(fresh, tmp_path, monkeypatch):
    program = scripted(tmp_path, "exec sleep 60")
    monkeypatch.setenv("CXX", program)
    monkeypatch.setattr(cpu_allocator, "PATIENCE", 0.5)
    assert refusal() == f"'{program}' gave no answer in 0.5 s"


def test_a_program_that_cannot_be_run_is_missing(fresh, tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF nothing")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    assert refusal().startswith(f"'{program}' can't be run: ")


def test_the_answer_stays_the_same_for_the_life_of_a_process(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    first = refusal()
    monkeypatch.delenv("CXX")
    assert refusal() == first
