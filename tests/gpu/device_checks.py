"""The device meter: torch's caching allocator, running out of memory, NVML."""

from __future__ import annotations

from register import MIB, check, expect, mib


@check()
def allocator_statistics() -> str:
    import torch

    from sketchbench.measure.device import Cuda

    meter = Cuda(torch.device("cuda"))
    before = meter.stats()
    kept = torch.empty(1000, dtype=torch.uint8, device="cuda")
    stats = meter.stats()
    grown = {name: stats[name] - before[name] for name in ("requested", "allocated", "reserved")}
    expect(grown == {"requested": 1000, "allocated": 1024, "reserved": 2 * MIB}, f"grew by {grown}")
    del kept
    return "1000 B asked for: 1000 B requested, 1024 B allocated, 2 MiB reserved"


@check()
def peaks_and_their_reset() -> str:
    import torch

    from sketchbench.measure.device import Cuda

    meter = Cuda(torch.device("cuda"))
    kept = torch.empty(4 * MIB, dtype=torch.uint8, device="cuda")
    freed = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    del freed
    before = meter.stats()
    meter.reset_peaks()
    after = meter.stats()
    peaks = (before["requested_peak"], after["requested_peak"], after["reserved_peak"])
    expect(peaks[:2] == (68 * MIB, 4 * MIB), f"requested peaks {peaks[:2]}")
    expect(peaks[2] == after["reserved"], f"reserved peak {peaks[2]} of {after['reserved']}")
    return f"{len(kept) // MIB} + 64 MiB: peak 68 MiB, after the reset 4 MiB; reserved stays"


@check()
def a_warm_up_workspace_is_charged_once() -> str:
    import torch

    from sketchbench.measure.device import Cuda

    meter = Cuda(torch.device("cuda"))
    a = torch.ones(256, 256, device="cuda")
    needed = []
    for _ in range(3):
        meter.synchronize()
        meter.reset_peaks()
        before = meter.stats()
        product = a @ a
        meter.synchronize()
        needed.append(meter.stats()["requested_peak"] - before["requested"])
        del product
    expect(needed[1] == needed[2], f"bytes of equal products: {needed}")
    expect(needed[1] == a.nbytes, f"a product of {a.nbytes} B needed {needed[1]} B")
    return f"first product {mib(needed[0])}, later ones {needed[1]:,} B, which is the result"


@check(
    PYTORCH_ALLOC_CONF="backend:cudaMallocAsync",
    PYTORCH_CUDA_ALLOC_CONF="backend:cudaMallocAsync",
)
def the_async_allocator_gives_no_figures() -> str:
    import torch

    torch.empty(1000, device="cuda")
    return _missing_stats()


@check(PYTORCH_NO_CUDA_MEMORY_CACHING="1")
def without_caching_there_are_no_figures() -> str:
    import torch

    torch.empty(1000, device="cuda")
    return _missing_stats()


def _missing_stats() -> str:
    import torch

    from sketchbench import Missing
    from sketchbench.measure.device import Cuda

    try:
        stats = Cuda(torch.device("cuda")).stats()
    except Missing as reason:
        raw = torch.cuda.memory_stats().get("requested_bytes.all.current")
        return f"Missing: {reason} (torch itself says {raw} requested bytes)"
    raise AssertionError(f"figures where there should be none: {stats}")


@check()
def running_out_of_memory() -> str:
    import torch

    from sketchbench.measure.device import Cuda, is_out_of_memory

    meter = Cuda(torch.device("cuda"))
    size = 2 * torch.cuda.get_device_properties(0).total_memory
    try:
        torch.empty(size, dtype=torch.uint8, device="cuda")
    except Exception as error:
        expect(is_out_of_memory(error), f"not recognised: {error!r}")
        kind = type(error).__name__
    else:
        raise AssertionError(f"the GPU gave {size} bytes")
    stats = meter.stats()
    expect(stats["ooms"] == 1, f"{stats['ooms']} failures counted")
    torch.ones(10, device="cuda").sum().item()
    return f"{kind} recognised; retries {stats['retries']}, ooms 1; the device works on"


@check()
def total_of_the_process_by_NVML() -> str:
    import torch

    from sketchbench.measure.device import Cuda

    meter = Cuda(torch.device("cuda"))
    kept = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    reserved, total = meter.stats()["reserved"], meter.total()
    expect(total >= reserved >= kept.nbytes, f"total {total} B, reserved {reserved} B")
    return f"{mib(total)} in all, of which {mib(reserved)} reserved by torch"
