"""Build one commit for asv: a wheel of the core, and of each plugin that exists there.

    python tools/asv_build.py BUILD_DIR BUILD_CACHE_DIR

The wheels go to a folder of their own in the cache: asv takes a wheel in the cache itself for the
one to install, and several for a mistake. Nothing is downloaded.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WHEELS = "wheels"


def main(build: Path, cache: Path) -> int:
    """Build what has a pyproject.toml; return pip's exit status."""
    found = [build, *sorted(path.parent for path in build.glob("plugins/*/pyproject.toml"))]
    words = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "wheel", *words, "--wheel-dir", str(cache / WHEELS)]
    return subprocess.run([*pip, *map(str, found)]).returncode


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
