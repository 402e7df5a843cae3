"""The clock: device seconds against wall seconds; contention beside a GPU."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from register import check, expect


@check()
def device_seconds_against_wall_seconds() -> str:
    clock, work = _clock(), _products(2048, 200)
    clock.start()
    work()
    clock.stop()  # warm: libraries are loaded, clocks are up
    shares = []
    for _ in range(20):
        clock.start()
        work()
        reading = clock.stop()
        device = reading.device or 0.0
        # A host and a device tell the time by clocks of their own.
        expect(0 < device <= reading.wall + 1e-5, f"device {device} s, wall {reading.wall} s")
        shares.append(device / reading.wall)
    shares.sort()
    return (
        f"200 products of 2048²: {1e3 * device:.2f} ms device; device/wall median "
        f"{shares[10]:.4f}, least {shares[0]:.4f}"
    )


@check()
def work_before_the_region_is_waited_for() -> str:
    clock, work = _clock(), _products(2048, 200)
    work()
    clock.start()
    work()
    alone = clock.stop().device or 0.0
    work()
    clock.start()
    nothing = clock.stop().device or 0.0
    expect(nothing < alone / 10, f"an empty region after {alone} s of work took {nothing} s")
    return f"after {1e3 * alone:.2f} ms of queued work an empty region took {1e6 * nothing:.1f} µs"


@check()
def what_the_clock_costs() -> str:
    clock = _clock()
    for _ in range(100):
        clock.start()
        clock.stop()
    started = time.perf_counter()
    readings = []
    for _ in range(1000):
        clock.start()
        readings.append(clock.stop())
    each = (time.perf_counter() - started) / 1000
    device = sorted(reading.device or 0.0 for reading in readings)[500]
    wall = sorted(reading.wall for reading in readings)[500]
    return (
        f"{1e6 * each:.1f} µs a region; an empty one reads {1e6 * device:.1f} µs device, "
        f"{1e6 * wall:.1f} µs wall"
    )


@check()
def a_second_gpu_has_its_own_events() -> str:
    import torch

    from sketchbench import Missing
    from sketchbench.measure import Clock
    from sketchbench.protocols import Watched

    if torch.cuda.device_count() < 2:
        raise Missing("only one GPU here")
    clock = Clock(torch.device("cuda", 1), Watched())
    a = torch.ones(2048, 2048, device="cuda:1")
    clock.start()
    for _ in range(100):
        a @ a
    device = clock.stop().device or 0.0
    expect(device > 1e-4, f"100 products of 2048² on cuda:1 took {device} s")
    return f"100 products on cuda:1, with cuda:0 current: {1e3 * device:.2f} ms"


@check()
def contention_beside_a_gpu() -> str:
    import torch

    from sketchbench.measure.contention import Contention

    work = _products(2048, 500)
    contention = Contention()
    contention.begin()
    work()
    torch.cuda.synchronize()
    return json.dumps(contention.end())


def _clock():
    import torch

    from sketchbench.measure import Clock
    from sketchbench.protocols import Watched

    return Clock(torch.device("cuda"), Watched())


def _products(size: int, times: int) -> Callable[[], None]:
    import torch

    a = torch.ones(size, size, device="cuda") / size

    def work() -> None:
        x = a
        for _ in range(times):
            x = x @ a

    return work
