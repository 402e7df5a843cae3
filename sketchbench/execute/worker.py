"""The work of one pass: a request in, an answer out; in a child process or in this one."""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from typing import Any

from sketchbench.discovery import raised
from sketchbench.execute import lifeline, preload
from sketchbench.kinds import Task
from sketchbench.protocols import Missing
from sketchbench.recipe import Lookup
from sketchbench.run import Diverged, Enough, Run, Skip, seed_of
from sketchbench.suite import rebuild

News = Callable[[dict[str, Any]], None]


def child(connection: Connection, request: dict[str, Any]) -> None:
    """Do the request in this process, which is a child made for it, and send the answer."""
    lifeline.lead_group(preload.SERVER or int(os.environ[preload.DRIVER]), not preload.SERVER)
    with open(request["log"], "wb", buffering=0) as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    faulthandler.enable(sys.stderr)

    def send(message: dict[str, Any]) -> None:
        connection.send_bytes(json.dumps(message).encode())

    answer = do(request, preload.registry(), lambda news: send({"news": news}))
    sys.stdout.flush()
    sys.stderr.flush()
    send({"answer": answer | {"problems": preload.PROBLEMS}})
    connection.close()


def do(request: dict[str, Any], lookup: Lookup, notify: News) -> dict[str, Any]:
    """Return status, reason, measurements and events of one pass (or of a task's preparation)."""
    if "ready" in request:
        return {"status": "ok", "reason": "", "measurements": [], "events": []}
    if "prepare" in request:
        task = Task.of(request["prepare"], lookup)
        status, reason = _tried(lambda: task.prepare(lambda text: notify({"text": text})))
        return {"status": status, "reason": reason, "measurements": [], "events": []}
    import torch

    from sketchbench.measure import Contention, Memory, labelling

    workload, wanted, seed, device_name = rebuild(request["cell"], lookup)
    device = torch.device("cpu" if request.get("ask") == "predict" else device_name)
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        reason = "a plugin's import uses CUDA, which no fork can after that: move it into `build`"
        return {"status": "error", "reason": reason, "measurements": [], "events": []}
    if "ask" in request:
        return _asked(request, workload, seed, device)
    period, stage = workload.full_period(), request["stage"]
    changing = any(part.changing for part in workload.parts())
    run = Run(device, seed, wanted, stage, period, notify, changing)
    labels = labelling() if stage == "audit" else nullcontext()
    if stage == "audit":
        Memory.prepare(device)
    watch = Contention() if stage == "result" else None
    with _repeatable(device, request["threads"], seed, run.events), labels:
        if watch:
            watch.begin()
        status, reason = _tried(lambda: workload.run(run))
        if watch:
            run.events.append({"name": "contention", "at": None} | watch.end())
    return {
        "status": status,
        "reason": reason,
        "measurements": [dataclasses.asdict(m) for m in run.measurements()],
        "events": run.events,
    }


def _asked(request: dict[str, Any], workload: Any, seed: int, device: Any) -> dict[str, Any]:
    """Answer a question about a workload's memory: what it will need, or what it keeps."""
    found: dict[str, Any] = {}

    def work() -> None:
        if request["ask"] == "predict":
            from sketchbench import predict

            found.update(predict.told(predict.predict(workload, seed)))
        else:
            from sketchbench.audit import audit

            found.update(dataclasses.asdict(audit(workload, seed, device)))

    with _repeatable(device, request["threads"], seed, []):
        status, reason = _tried(work)
    return {"status": status, "reason": reason, "found": found}


def _tried(work: Callable[[], None]) -> tuple[str, str]:
    """Return how the work ended: a status, and one line that says why."""
    try:
        work()
    except Enough:
        return "ok", ""
    except (Skip, Missing) as reason:
        return "skipped", " ".join(str(reason).split())
    except (Diverged, FloatingPointError) as reason:  # what a preconditioner raises at a NaN
        return "nan", " ".join(str(reason).split())
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        from sketchbench.measure import is_out_of_memory

        return ("oom" if is_out_of_memory(error) else "error"), raised(error)
    return "ok", ""


@contextmanager
def _repeatable(
    device: Any, threads: int, seed: int, events: list[dict[str, Any]]
) -> Iterator[None]:
    """Fix everything that could make two runs of one cell differ; put it back afterwards."""
    import torch

    on_cuda = device.type == "cuda"
    before = torch.get_num_threads()
    was = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=on_cuda)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        devices = [device.index or 0] if on_cuda else []
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.manual_seed(seed_of(seed, "global"))
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(was)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        texts = dict.fromkeys(" ".join(str(w.message).split()) for w in caught)
        events += [{"name": "warning", "at": None, "what": text[:500]} for text in texts]
