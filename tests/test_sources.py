"""Source digests: what a package imports counts, comments don't."""

import sys

import pytest

from sketchbench import sources


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Return a function that writes modules below a folder on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files):
        for name, text in files.items():
            place = tmp_path / (name.replace("__", "/") + ".py")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        for cached in (sources._location, sources._source):
            cached.cache_clear()

    yield write
    for cached in (sources._location, sources._source):
        cached.cache_clear()


def test_an_edit_changes_the_digest_of_its_package_alone(packages):
    packages(one__init="", one__part="x = 1", two__init="")
    before = sources.digest(["one", "two"])
    packages(one__part="x = 2")
    after = sources.digest(["one", "two"])
    assert {name for name in after if after[name] != before[name]} == {"one"}


def test_a_loose_module_that_is_imported_counts(packages):
    packages(plugin="def f():\n    import helper\n", helper="from deep import x", deep="x = 1")
    before = sources.digest(["plugin"])
    assert {"plugin", "helper", "deep"} <= set(before)
    packages(deep="x = 2")
    assert sources.digest(["plugin"])["deep"] != before["deep"]


def test_comments_and_layout_do_not_count(packages):
    packages(plugin="x = [1, 2]\n")
    before = sources.digest(["plugin"])
    packages(plugin="# why\nx = [1,\n     2]\n")
    assert sources.digest(["plugin"]) == before


def test_data_files_of_a_package_count(packages, tmp_path):
    packages(plugin__init="")
    (tmp_path / "plugin" / "table.csv").write_text("1")
    before = sources.digest(["plugin"])
    (tmp_path / "plugin" / "table.csv").write_text("2")
    packages()
    assert sources.digest(["plugin"]) != before


@pytest.mark.parametrize("name", [".__init__.py.swp", "__init__.py~", "part.py.orig"])
def test_what_an_editor_leaves_behind_does_not_count(packages, tmp_path, name):
    packages(plugin__init="")
    before = sources.digest(["plugin"])
    (tmp_path / "plugin" / name).write_text("x = 1")
    packages()
    assert sources.digest(["plugin"]) == before


def test_installed_packages_are_known_by_their_versions():
    found = sources.digest([])
    assert found["torch"].startswith("2.")
    assert "pytest" not in found
    assert not set(found) & set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("linalg.py", True),
        ("execute/worker.py", True),
        ("report/terminal.py", False),
        ("cli/run.py", False),
        ("statistics.py", False),
        ("testing/gradient.py", False),
        ("predict.py", False),
        ("fakes.py", False),
        ("audit.py", False),
    ],
)
def test_the_core_counts_but_for_the_rooms_that_only_read(tmp_path, file, counts):
    package = tmp_path / "core"
    for room in (
        "linalg.py",
        "execute/worker.py",
        "report/terminal.py",
        "cli/run.py",
        "statistics.py",
        "testing/gradient.py",
        "predict.py",
        "fakes.py",
        "audit.py",
    ):
        (package / room).parent.mkdir(parents=True, exist_ok=True)
        (package / room).write_text("x = 1\n")
    before = sources._source(package, sources.READERS)
    (package / file).write_text("x = 2\n")
    sources._source.cache_clear()
    assert (sources._source(package, sources.READERS) != before) is counts


def test_a_module_that_does_not_parse_counts_as_its_bytes(packages):
    packages(plugin="x = (")
    before = sources.digest(["plugin"])
    packages(plugin="x = ((")
    assert sources.digest(["plugin"]) != before
