"""The walls between rooms, and what starting up must not import."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in sorted((ROOT / "sketchbench").rglob("*.py"))
    if path.name != "__main__.py"
]


def test_imports_respect_the_walls():
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "from sketchbench.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "import sketchbench, sketchbench.kinds, sketchbench.measure",
        "import sketchbench.report.terminal, sketchbench.store",
    ],
)
def test_light_commands_import_neither_torch_nor_scipy(code):
    check = f"{code}\nimport sys\nassert not {{'torch', 'scipy', 'sklearn'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_door_opens_on_everything_it_names_in_order():
    import sketchbench

    assert sketchbench.__all__ == sorted(sketchbench.__all__)
    assert all(getattr(sketchbench, name) is not None for name in sketchbench.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sketchbench.nothing  # noqa: B018


def test_files_hold_one_thing_and_stay_short():
    code = [*(ROOT / "sketchbench").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    lengths = {path: len(path.read_text().splitlines()) for path in code}
    assert {path.name: n for path, n in lengths.items() if n > 310} == {}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    path = ROOT / (module.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    assert path.read_text().startswith('"""'), path
