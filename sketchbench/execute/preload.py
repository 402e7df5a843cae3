"""The one module that the fork server preloads: torch, what optimizers import, the registry.

Nothing may escape from here, or the server would die without a word: problems are kept, and every
child hands them to the driver.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os

from sketchbench.discovery import raised
from sketchbench.execute import lifeline
from sketchbench.registry import Registry

DRIVER = "_SKETCHBENCH_DRIVER"  # set by the driver: its process number
SERVED = "_SKETCHBENCH_SERVED"  # set by the driver: whether its child is a fork server
QUARANTINED = "_SKETCHBENCH_QUARANTINED"  # set by the driver: what its own load left out, and why

PROBLEMS: list[str] = []
SERVER = 0
_registry: Registry | None = None


def registry() -> Registry:
    """Return the registry, loaded once: by the server if there is one, else by this process."""
    global _registry
    if _registry is None:
        _registry = Registry.load(json.loads(os.environ.get(QUARANTINED, "null")))
    return _registry


def _serve() -> None:
    global SERVER
    SERVER = os.getpid()
    lifeline.serve(int(os.environ[DRIVER]))
    for load in (_torch, registry):
        try:
            load()
        except BaseException as error:
            PROBLEMS.append(f"preload: {raised(error)}")
    gc.collect()
    gc.freeze()  # a child's collections pass over what was loaded here: 0.2 s each otherwise


def _torch() -> None:
    import torch
    import torch._dynamo  # the first optimizer imports it: 2 s of CPU in every child otherwise
    import torch.utils.checkpoint

    with contextlib.suppress(ImportError):  # without setuptools, which it needs, this says so later
        import torch.utils.cpp_extension  # noqa: F401  # CPU allocations are counted by its flags

    from sketchbench.execute import worker  # noqa: F401


if os.environ.get(SERVED) == "yes" and os.environ.get(DRIVER) == str(os.getppid()):
    _serve()
