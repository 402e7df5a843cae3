"""Each law of monitors catches a monitor that breaks it, and says what was expected."""

import pytest
import torch
from torch import nn

from sketchbench import Field, Monitor
from sketchbench.testing import laws, monitor


class Norms(Monitor):
    """Norms of gradients, weighed by fair draws; `fault` breaks one law."""

    name = "norms"
    fault: str = Field("", description="The law to break.")

    def build(self, model, batch_size, rng):
        if self.fault == "repeats_from_its_seed":
            rng.seed()
        if self.fault == "leaves_the_global_generator":
            torch.rand(1)
        return Watching(model, rng, self.fault)


class Watching:
    def __init__(self, model, rng, fault):
        self.fault, self.model = fault, model
        self.modules = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        self.weights = torch.rand(len(self.modules), generator=rng)
        self.largest = torch.zeros(len(self.modules))
        self.steps = 0
        self.hooks = []
        self.observe(True)

    @property
    def layers(self):
        names = tuple(self.modules)
        return names[::-1] if self.fault == "names_its_layers" else names

    def observe(self, on):
        if on and not self.hooks:
            self.hooks = [
                m.register_forward_hook(self._see(place))
                for place, m in enumerate(self.modules.values())
            ]
        elif not on and self.fault not in ("rests_when_told", "rests with its hooks on"):
            self.close(really=True)

    def _see(self, place):
        def hook(module, inputs, output):
            if self.fault == "leaves_training_as_it_is":
                return output + 1e-3
            if self.fault == "sees_nothing_in_evaluation" or (
                module.training and output.requires_grad
            ):
                with torch.no_grad():
                    grown = torch.maximum(self.largest[place], inputs[0].abs().max())
                    self.largest[place] = grown
            return None

        return hook

    def estimates(self):
        self.steps += 1
        norms = torch.stack([m.weight.grad.norm() for m in self.modules.values()])
        found = {"norm": norms * self.weights, "largest": self.largest.clone()}
        if self.fault == "estimates_one_number_a_layer":
            found["norm"] = found["norm"].sum()
        if self.fault == "says less and less" and self.steps > 1:
            del found["largest"]
        if self.fault == "is infinite":
            found["norm"] = found["norm"] / 0
        return found

    def held(self):
        found = self.weights.nbytes + self.largest.nbytes
        return found // 2 if self.fault == "counts_the_bytes_that_it_holds" else found

    def close(self, really=False):
        if self.fault != "goes_when_closed" or really:
            for hook in self.hooks:
                hook.remove()
            self.hooks = []


FAULTS = {
    monitor.estimates_one_number_a_layer: (
        "estimates_one_number_a_layer",
        "says less and less",
        "is infinite",
    ),
    monitor.rests_when_told: ("rests_when_told", "rests with its hooks on"),
}

test_norms = laws(Norms())


@pytest.mark.parametrize(
    ("law", "fault"),
    [(law, fault) for law in monitor.LAWS for fault in FAULTS.get(law, (law.__name__,))],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_law_catches_its_fault_and_says_what_was_expected(law, fault):
    with pytest.raises(AssertionError, match="expected "):
        law(Norms(fault=fault))
