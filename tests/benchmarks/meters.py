"""What meters of memory say of one training step, in bytes: `python tests/benchmarks/meters.py`.

Every case is taken by every meter in a process of its own. The columns:

tracker      peak of live bytes, by `sketchbench.measure.Memory`
+ workspace  the same and what the allocator had beside it: its peak while the tracker counts
allocator    peak of the bytes requested of torch's CPU allocator, with nothing else at work
saved hooks  `saved_tensors_hooks`: the storages of saved tensors, each once; weights and inputs
             that are saved count, attributes of contexts don't
profiler     `torch.profiler`: the most that its memory events add up to, over the bytes of the
             model, the optimizer's state and the inputs
RSS          `ru_maxrss`: the process's largest resident memory, interpreter and libraries included
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

COLUMNS = ("tracker", "+ workspace", "allocator", "saved hooks", "profiler", "RSS")
SEED = 0


def _memory(case: Case) -> dict[str, int | str]:
    import torch

    from sketchbench import Missing
    from sketchbench.measure import Memory

    memory = Memory(torch.device("cpu"), case.watched)
    memory.start()
    case.step()
    usage = memory.stop()
    found: dict[str, int | str] = {"tracker": usage.footprint.peak}
    try:
        return found | {"+ workspace": usage.requested_peak}
    except Missing as missing:
        return found | {"+ workspace": f"- ({missing})"}


def _allocator(case: Case) -> dict[str, int | str]:
    """Read the allocator, and the process's resident memory, which is none the worse for it."""
    from sketchbench import Missing
    from sketchbench.measure import cpu_allocator

    found: dict[str, int | str] = {}
    try:
        counters = cpu_allocator.install()
        counters.reset_peak()
        case.step()
        found["allocator"] = counters.peak()
    except Missing as missing:
        case.step()
        found["allocator"] = f"- ({missing})"
    unit = 1 if sys.platform == "darwin" else 1024
    return found | {"RSS": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def _hooks(case: Case) -> dict[str, int | str]:
    from torch import Tensor
    from torch.autograd.graph import saved_tensors_hooks

    from sketchbench.measure.storages import unique_bytes

    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.detach())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = case.loss(case.model, *case.inputs)
    del loss
    return {"saved hooks": unique_bytes(saved)}


def _profiler(case: Case) -> dict[str, int | str]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        case.step()
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]"]
    if not changes:
        return {"profiler": "- (no memory events)"}
    now = most = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        now += change
        most = max(most, now)
    return {"profiler": most + _baseline(case)}


def _baseline(case: Case) -> int:
    from sketchbench.measure.storages import tensors, unique_bytes

    state = tensors(list(case.optimizer.state.values()))
    return unique_bytes([*case.model.parameters(), *case.model.buffers(), *case.inputs, *state])


METERS: Mapping[str, Callable[[Case], dict[str, int | str]]] = {
    "memory": _memory,
    "allocator": _allocator,
    "hooks": _hooks,
    "profiler": _profiler,
}


def take(name: str, meter: str, sizes: Mapping[str, int]) -> dict[str, int | str]:
    """Return what one meter says of one case, in this process."""
    import torch

    from sketchbench.measure import Memory

    if meter in ("memory", "allocator"):
        Memory.prepare(torch.device("cpu"))  # before there are tensors
    torch.manual_seed(SEED)
    case = CASES[name][1](**sizes)
    if meter != "hooks":  # which sees the forward pass alone
        case.prepare()
    gc.collect()
    return METERS[meter](case)


def row(name: str, sizes: Mapping[str, int]) -> dict[str, int | str]:
    """Return what every meter says of one case, each in a process of its own."""
    found: dict[str, int | str] = {}
    for meter in METERS:
        command = [sys.executable, __file__, name, "--meter", meter, "--sizes", json.dumps(sizes)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        if done.returncode:
            raise SystemExit(f"{name}, {meter}: {done.stderr.strip().splitlines()[-1]}")
        found |= json.loads(done.stdout)
    return found


def table(rows: Sequence[tuple[str, Mapping[str, int | str]]], markdown: bool) -> str:
    """Return the rows as text, or as a table of Markdown."""
    cells = [
        [title, *(_number(found.get(column, "-")) for column in COLUMNS)] for title, found in rows
    ]
    head = ["bytes", *COLUMNS]
    if markdown:
        rule = ["---", *("---:" for _ in COLUMNS)]
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *cells])
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            word.rjust(width) if i else word.ljust(width)
            for i, (word, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [head, *cells]
    )


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, or with `--meter` what one meter says of one case, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all where none is named")
    parser.add_argument("--markdown", action="store_true", help="print a table of Markdown")
    parser.add_argument("--sizes", type=json.loads, default={}, help="arguments of a case, as JSON")
    parser.add_argument("--meter", choices=list(METERS), help="this one, in this process")
    given = parser.parse_args(words)
    unknown = [name for name in given.cases if name not in CASES]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such case (known: {', '.join(CASES)})")
    names = given.cases or list(CASES)
    if given.meter:
        print(json.dumps(take(names[0], given.meter, given.sizes)))
        return
    print(table([(CASES[name][0], row(name, given.sizes)) for name in names], given.markdown))


sys.path.insert(0, str(Path(__file__).parent))
from meter_cases import CASES, Case  # noqa: E402  # beside this script, not in a package

if __name__ == "__main__":
    main()
