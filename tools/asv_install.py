"""Install one commit for asv, from the wheels that asv_build.py made.

    python tools/asv_install.py BUILD_CACHE_DIR SHARED     in the environment of asv
    python tools/asv_install.py --uninstall

SHARED is the environment with torch and all else that a commit needs, which `make asv-setup`
prepares; its packages are seen through a path file, behind the environment's own. Without it pip
installs what the wheels depend on, once an environment: torch of the release that requirements.txt
beside the configuration pins, so that all commits are measured with one.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from asv_build import WHEELS

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
OURS = "sketchbench"  # how the names of all distributions of a commit begin


def install(cache: Path, shared: Path) -> int:
    """Replace what is installed of this project by the wheels; return pip's exit status."""
    status = uninstall()
    wheels = sorted(map(str, (cache / WHEELS).glob("*.whl")))
    words = ["install", "--quiet", "--disable-pip-version-check"]
    sites = sorted(shared.glob("lib/python*/site-packages")) or sorted(
        shared.glob("Lib/site-packages")
    )
    path = Path(sysconfig.get_paths()["purelib"]) / "zz_shared_site.pth"
    path.unlink(missing_ok=True)
    if sites:
        words += ["--no-deps", "--no-index"]
        path.write_text(f"{sites[0]}\n")
        return status or _pip(*words, *wheels)
    return status or _pip(*words, *pinned(), *wheels)


def pinned(requirements: Path = REQUIREMENTS) -> list[str]:
    """Return the releases that the project's requirements pin."""
    lines = requirements.read_text().splitlines() if requirements.exists() else []
    return [line.strip() for line in lines if "==" in line and not line.lstrip().startswith("#")]


def uninstall() -> int:
    """Remove every distribution of this project from this environment; return pip's status."""
    own = sysconfig.get_paths()["purelib"]
    names = {dist.name for dist in metadata.distributions(path=[own])}
    ours = sorted(name for name in names if name.startswith(OURS))
    return _pip("uninstall", "--quiet", "--yes", *ours) if ours else 0


def _pip(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "pip", *words]).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["--uninstall"]:
        sys.exit(uninstall())
    sys.exit(install(*map(Path, sys.argv[1:])))
