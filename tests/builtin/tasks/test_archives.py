import gzip
import hashlib
import io
import multiprocessing
import re
import tarfile
from dataclasses import replace

import pytest

from sketchbench import Skip
from sketchbench.builtin.tasks.archives import Archive

RAW = {f"part_{i}.bin": bytes([i]) * 5000 for i in range(3)}
TEXT = b"idx" * 1000


def md5(data):
    return f"md5:{hashlib.md5(data).hexdigest()}"


def tar(mode="w:gz", files=RAW):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"parts-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def parts(url="http://127.0.0.1:9/parts.tar.gz", known_hash="md5:0"):
    return Archive(
        data_set="parts",
        wrappers=("parts.tar.bz2", "parts.tar.gz"),
        url=url,
        known_hash=known_hash,
        files={name: f"sha256:{hashlib.sha256(data).hexdigest()}" for name, data in RAW.items()},
        unpacked="parts-bin",
    )


@pytest.fixture
def data(tmp_path, monkeypatch, cache):
    folder = tmp_path / "data"
    (folder / "parts").mkdir(parents=True)
    monkeypatch.setenv("SKETCHBENCH_DATA", str(folder))
    return folder / "parts"


@pytest.mark.parametrize(("name", "mode"), [("parts.tar.gz", "w:gz"), ("parts.tar.bz2", "w:bz2")])
def test_an_archive_in_the_data_folder_is_unpacked_once_into_the_cache(data, cache, name, mode):
    (data / name).write_bytes(tar(mode))
    assert parts().read("part_1.bin") == RAW["part_1.bin"]
    (data / name).unlink()
    assert parts().read("part_2.bin") == RAW["part_2.bin"]
    assert sorted(path.name for path in (cache / "parts").iterdir()) == sorted(RAW)


def test_an_archive_of_several_streams_unpacks(data):
    import bz2

    whole = tar("w")
    (data / "parts.tar.bz2").write_bytes(
        b"".join(bz2.compress(half) for half in (whole[:6000], whole[6000:]))
    )
    assert parts().read("part_2.bin") == RAW["part_2.bin"]


@pytest.mark.parametrize("folder", [".", "parts-bin"])
def test_raw_files_in_the_data_folder_are_read_in_place(data, cache, folder):
    (data / folder).mkdir(exist_ok=True)
    (data / folder / "part_0.bin").write_bytes(RAW["part_0.bin"])
    assert parts().read("part_0.bin") == RAW["part_0.bin"]
    assert not cache.exists()


def test_a_single_gzip_is_an_archive_of_one_file(data, cache):
    archive = replace(parts(), wrappers=("letters.gz",), files={"letters": md5(TEXT)})
    (data / "letters.gz").write_bytes(gzip.compress(TEXT))
    assert archive.read("letters") == TEXT


def test_a_damaged_raw_file_is_named_with_both_hashes(data):
    (data / "part_0.bin").write_bytes(RAW["part_0.bin"][:-1] + b"x")
    with pytest.raises(RuntimeError) as caught:
        parts().read("part_0.bin")
    text = str(caught.value)
    assert str(data / "part_0.bin") in text
    assert parts().files["part_0.bin"] in text
    assert hashlib.sha256(RAW["part_0.bin"][:-1] + b"x").hexdigest() in text
    assert "\n" not in text


def test_a_file_damaged_in_the_cache_is_found_at_the_next_load(data, cache):
    (data / "parts.tar.gz").write_bytes(tar())
    parts().read("part_0.bin")
    (cache / "parts" / "part_0.bin").write_bytes(b"")
    with pytest.raises(RuntimeError, match=re.escape(str(cache / "parts" / "part_0.bin"))):
        parts().read("part_0.bin")


def test_a_damaged_member_never_reaches_the_cache(data, cache):
    (data / "parts.tar.gz").write_bytes(tar(files=RAW | {"part_1.bin": b"x" * 5000}))
    with pytest.raises(RuntimeError, match=r"parts\.tar\.gz, member part_1\.bin: damaged"):
        parts().read("part_1.bin")
    assert not (cache / "parts" / "part_1.bin").exists()


def test_a_truncated_archive_is_damaged(data):
    whole = tar("w:bz2")
    (data / "parts.tar.bz2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError, match=r"parts\.tar\.bz2: damaged"):
        parts().read("part_2.bin")


def test_an_archive_that_lacks_files_names_them(data):
    (data / "parts.tar.gz").write_bytes(tar(files={"part_0.bin": RAW["part_0.bin"]}))
    with pytest.raises(RuntimeError, match=r"lacks part_1\.bin, part_2\.bin"):
        parts().read("part_0.bin")


def test_missing_data_is_a_skip_that_names_folder_variable_and_address(data):
    with pytest.raises(Skip) as caught:
        parts().read("part_0.bin")
    text = str(caught.value)
    assert text.startswith(
        f"parts: no data in {data.parent}; set SKETCHBENCH_DATA to a folder that"
    )
    assert "holds parts/parts.tar.bz2, or allow the download from http://127.0.0.1:9/" in text
    assert "refused" in text
    assert "\n" not in text
    assert "Connection(" not in text


def test_without_a_data_folder_the_skip_names_the_cache(cache):
    with pytest.raises(Skip, match=re.escape(f"no data in {cache};")):
        parts().read("part_0.bin")


def test_an_address_that_is_gone_is_a_skip(server):
    with pytest.raises(Skip, match="404"):
        parts(f"{server[1]}/parts.tar.gz").read("part_0.bin")


def test_a_download_is_checked_unpacked_and_reported(server, cache, capfd):
    folder, address = server
    (folder / "parts.tar.gz").write_bytes(tar())
    said = []
    archive = parts(f"{address}/parts.tar.gz", md5((folder / "parts.tar.gz").read_bytes()))
    assert archive.read("part_1.bin", said.append) == RAW["part_1.bin"]
    assert sorted(path.name for path in (cache / "parts").iterdir()) == sorted(RAW)
    assert said[0].startswith("downloading parts.tar.gz: 0 of 0 MB")
    assert any("unpacking" in line for line in said)
    assert capfd.readouterr() == ("", "")  # progress is the only voice


def test_a_wrong_download_is_an_error_and_nothing_is_kept(server, cache):
    folder, address = server
    (folder / "parts.tar.gz").write_bytes(b"please log in to the network")
    with pytest.raises(
        RuntimeError, match=re.escape(f"{address}/parts.tar.gz: what was")
    ) as caught:
        parts(f"{address}/parts.tar.gz", "md5:" + "0" * 32).read("part_1.bin")
    assert "\n" not in str(caught.value)
    assert list((cache / "parts").iterdir()) == []


def test_a_cache_that_cannot_be_written_says_what_to_set(data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKETCHBENCH_CACHE", str(tmp_path / "file"))
    (data / "parts.tar.gz").write_bytes(tar())
    with pytest.raises(RuntimeError, match="set SKETCHBENCH_CACHE to a writable folder"):
        parts().read("part_1.bin")


def _read_all(barrier, answers):
    barrier.wait()
    try:
        answers.put([parts().read(name) == data for name, data in RAW.items()])
    except BaseException as error:
        answers.put(repr(error))


def test_processes_may_fill_the_cache_at_once(data, cache):
    (data / "parts.tar.gz").write_bytes(tar())
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_read_all, args=(barrier, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert found == [[True] * 3] * 4
    assert sorted(path.name for path in (cache / "parts").iterdir()) == sorted(RAW)
