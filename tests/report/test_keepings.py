import io

import pytest
from rich.console import Console

from sketchbench.report import keepings
from sketchbench.report.paper import Plain


def kept(
    *keepers, size=1024, shape=(2, 3), op="aten.relu.default", born="", category="activations"
):
    return {
        "size": size,
        "shape": list(shape),
        "dtype": "float32",
        "op": op,
        "category": category,
        "born": born,
        "keepers": list(keepers),
    }


@pytest.fixture
def shown():
    def run(modules, tensors, baseline=None, depth=None):
        out = io.StringIO()
        paper = Plain(Console(file=out, width=10_000, no_color=True))
        total = sum(each["size"] for each in tensors)
        names = [("", "Sequential"), *modules.items()]
        found = {"total": total, "kept": tensors, "modules": names}
        keepings.show(paper, "m", found, baseline, depth)
        _, *lines = out.getvalue().splitlines()
        return lines

    return run


MODULES = {"0": "Linear", "1": "ReLU", "2": "Linear"}


def test_a_tensor_counts_under_its_first_keeper_and_names_the_others(shown):
    assert shown(MODULES, [kept("1", "2")]) == [
        "m: 1 KiB kept for the backward pass",
        "  1 (ReLU): 1 KiB",
        "    relu 2 × 3 float32: 1 KiB, also kept by 2",
        "  2 (Linear): 0 bytes",
        "    relu 2 × 3 float32: counted under 1",
    ]


def test_what_nobody_saves_counts_where_it_was_born(shown):
    lines = shown(MODULES, [kept(born="0", category="sketches", op="aten.mm.default")])
    assert lines[1:] == [
        "  0 (Linear): 1 KiB",
        "    sketch, mm 2 × 3 float32: 1 KiB, held, but not as a saved tensor",
    ]


def test_scalars_that_are_merely_held_are_summed(shown):
    loss = kept(size=4, shape=(), op="aten.nll_loss_forward.default")
    assert shown({}, [loss, loss, loss])[1:] == [
        "  (outside the model): 12 B",
        "    3 scalars: 12 B, held, but not as saved tensors",
    ]
    (only,) = shown({}, [loss])[2:]
    assert only.strip() == "nll_loss_forward scalar float32: 4 B, held, but not as a saved tensor"


@pytest.mark.parametrize(
    ("baseline", "text"),
    [
        (1024, "as much as the baseline"),
        (4096, "-3 KiB against the baseline (-75.0%)"),
        (512, "+512 B against the baseline (+100.0%)"),
        (0, "+1 KiB against the baseline"),
    ],
)
def test_a_method_is_compared_with_its_baseline(shown, baseline, text):
    assert shown(MODULES, [kept("1")], baseline)[0].endswith(f"backward pass, {text}")


BLOCKS = {
    name: kind
    for i in range(12)
    for name, kind in {f"h.{i}": "Block", f"h.{i}.a": "Linear", f"h.{i}.b": "ReLU"}.items()
}
DEEP = {"h": "Sequential", **BLOCKS}


def blocks(count):
    """Return what blocks keep: a ReLU its result, which the next linear layer saves too."""
    after = [(f"h.{i + 1}.a",) if i + 1 < count else () for i in range(count)]
    return [kept(f"h.{i}.b", *others) for i, others in enumerate(after)]


def test_blocks_that_keep_the_same_are_told_once(shown):
    lines = shown(DEEP, blocks(12))
    assert "    h.2 to h.10 (Block), as h.1: 9 KiB" in lines
    assert "    h.1 (Block): 1 KiB" in lines
    assert "    h.11 (Block): 1 KiB" in lines
    assert lines[1] == "  h (Sequential): 12 KiB"


def test_a_block_that_keeps_something_else_is_told_by_itself(shown):
    tensors = blocks(12)
    tensors[5] |= {"shape": [9, 9]}
    lines = shown(DEEP, tensors)
    assert any(line.startswith("    h.5 (Block)") for line in lines)
    assert "    h.2 to h.4 (Block), as h.1: 3 KiB" in lines


def test_one_level_of_modules_has_the_totals_of_what_is_in_them(shown):
    lines = shown(DEEP, blocks(12), depth=1)
    assert lines[1:] == ["  h (Sequential): 12 KiB"]
    lines = shown(DEEP, [kept("h.0.b", size=2048), kept("h.1.b")], depth=2)
    assert lines[1:] == [
        "  h (Sequential): 3 KiB",
        "    h.0 (Block): 2 KiB",
        "    h.1 (Block): 1 KiB",
    ]


def test_every_byte_is_in_the_totals_of_the_top_level(shown):
    tensors = [*blocks(12), kept("0"), kept(), kept("h")]
    modules = {"0": "Linear"} | DEEP
    lines = [line for line in shown(modules, tensors) if line.startswith("  ") and line[2] != " "]
    sizes = [float(line.rpartition(": ")[2].split()[0]) for line in lines]
    assert sum(sizes) == len(tensors)
