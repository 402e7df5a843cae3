"""Make asv's published site open without the network: what it loads from elsewhere lies beside it.

    python tools/asv_offline.py HTML_DIR [PACKAGES]

Scripts and styles come from npm packages of pinned versions (`npm pack`), kept in PACKAGES (by
default .asv/npm). Status 1, in one line, where something can't be had or isn't known.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

FILES = {  # of a page's address, without `.min`: the npm package, and the file in it
    "jquery-3.3.1.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}
VENDOR = "vendor"
TAG = re.compile(r"<(?:script|link)\b[^>]*?\b(?:src|href)=\"(https?://[^\"]+)\"[^>]*>", re.DOTALL)
CHECKS = re.compile(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"')


class Trouble(Exception):
    """Why the site can't be made whole."""


def localised(page: str) -> tuple[str, list[str]]:
    """Return the page with addresses of its own, and the names in `FILES` that it needs."""
    needed = []

    def local(tag: re.Match[str]) -> str:
        name = tag[1].rpartition("/")[2].replace(".min.", ".")
        if name not in FILES:
            raise Trouble(f"the page loads {tag[1]}, and no package is known for it")
        needed.append(name)
        return CHECKS.sub("", tag[0].replace(tag[1], f"{VENDOR}/{name}"))

    return TAG.sub(local, page), needed


def packed(package: str, folder: Path) -> Path:
    """Return the archive of a pinned npm package, fetched unless it is there."""
    name, _, version = package.partition("@")
    archive = folder / f"{name}-{version}.tgz"
    if not archive.exists():
        words = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
        try:
            subprocess.run(words, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise Trouble("npm isn't installed; it fetches the scripts of the page") from None
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.split())[-200:]
            raise Trouble(f"npm pack {package} ended with {error.returncode}: {said}") from None
    return archive


def main(html: Path, packages: Path = Path(".asv/npm")) -> None:
    """Rewrite index.html and put beside it what it loads; raise `Trouble` where that can't be."""
    index = html / "index.html"
    if not index.exists():
        raise Trouble(f"{index} doesn't exist; `asv publish` writes it")
    page, needed = localised(index.read_text())
    packages.mkdir(parents=True, exist_ok=True)
    (html / VENDOR).mkdir(exist_ok=True)
    for name in needed:
        package, member = FILES[name]
        with tarfile.open(packed(package, packages)) as archive:
            file = archive.extractfile(f"package/{member}")
            if file is None:
                raise Trouble(f"{package} has no file {member}")
            (html / VENDOR / name).write_bytes(file.read())
    index.write_text(page)


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except Trouble as reason:
        sys.exit(f"asv_offline: {reason}")
