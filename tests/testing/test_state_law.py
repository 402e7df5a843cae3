"""The law of an optimizer's state catches what is declared wrongly, and says what was found."""

import pytest
import torch

from sketchbench import Field, Optimizer
from sketchbench.testing.state import declares_its_state


class Counted(Optimizer):
    """Descent with momentum and a counter; `fault` declares something else."""

    name = "counted"
    fault: str = Field("", description="What is wrong.")

    def build(self, params):
        return Kept(params, self.fault)

    def state_bytes(self, params):
        if self.fault == "silent":
            return None
        taught = [p for p in params if p.requires_grad or self.fault == "frozen"]
        size = {p: 4 if self.fault == "fp32" else p.element_size() for p in taught}
        momentum = sum(
            p.numel() * size[p] for p in taught if self.fault != "matrices" or p.ndim == 2
        )
        found = {"momentum": momentum, "rest": 8 * len(taught), "sketch": 0}
        if self.fault == "forgets":
            del found["rest"]
        if self.fault == "part":
            found["velocity"] = found.pop("momentum")
        return found


class Kept(torch.optim.Optimizer):
    def __init__(self, params, fault):
        super().__init__(params, {"lr": 0.1})
        self.state_parts = {"mean": "Momentum!" if fault == "name" else "momentum"}
        if fault in ("key", "silent key"):
            self.state_parts["average"] = "momentum"
        self.fault = fault

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            if p.grad is None:
                continue
            if self.fault == "takes no bf16" and p.dtype == torch.bfloat16:
                raise TypeError("bfloat16 is not supported")
            if self.fault == "takes no vectors" and p.ndim == 1:
                raise ValueError("a matrix is needed")
            state = self.state[p]
            state.setdefault("steps", torch.zeros((), dtype=torch.int64)).add_(1)
            state.setdefault("mean", torch.zeros_like(p)).mul_(0.9).add_(p.grad)
            p.add_(state["mean"], alpha=-0.1)


@pytest.mark.parametrize("fault", ["", "takes no bf16"])
def test_what_is_declared_rightly_is_kept(fault):
    declares_its_state(Counted(fault=fault))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("fp32", r"\(6, 4\) in bfloat16 takes .*momentum: 48 bytes.* declares momentum: 96 bytes"),
        ("frozen", r"beside a frozen one \(5, 3\) .*momentum: 96 .* declares momentum: 156"),
        ("matrices", r"all shapes .* declares momentum: 192"),
        ("forgets", r"rest: 40 bytes; it declares momentum: \d+ bytes$"),
        ("part", r"momentum: \d+ bytes, .* declares rest: 40 bytes, velocity"),
        ("key", r"keys of the state \(mean, steps\); 'average' is none of them"),
        ("name", "lower case with underscores; got 'Momentum!'"),
    ],
)
def test_what_is_declared_wrongly_is_caught(fault, text):
    with pytest.raises(AssertionError, match=f"expected .*{text}"):
        declares_its_state(Counted(fault=fault))


def test_what_declares_nothing_is_skipped_and_told_how_to():
    with pytest.raises(pytest.skip.Exception, match=r"let state_bytes\(params\) return bytes"):
        declares_its_state(Counted(fault="silent"))


def test_an_optimizer_that_fails_on_fp32_is_no_exception():
    with pytest.raises(ValueError, match="a matrix is needed"):
        declares_its_state(Counted(fault="takes no vectors"))


def test_state_is_that_after_a_full_period():
    class Late(Counted):
        """Makes its state in the third step of three."""

        name = "late"

        @property
        def period(self):
            return 3

        def build(self, params):
            return Third(params, "")

    class Third(Kept):
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps == 3:
                super().step()

    declares_its_state(Late())
