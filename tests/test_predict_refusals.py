import pytest
import torch
from torch import nn

from sketchbench.audit import audit
from sketchbench.kinds import Workload
from sketchbench.predict import predict
from sketchbench.protocols import Missing


class Recurrent(Workload):
    """One step of a recurrent network."""

    name = "recurrent"

    def run(self, run):
        model = nn.LSTM(3, 4)
        run.watch(model=model)
        while True:
            with run.region("step"):
                model(torch.ones(2, 1, 3))[0].sum().backward()


class Growing(Workload):
    """Three steps, the last of which keeps most."""

    name = "growing"

    @property
    def changing(self):
        return True

    def run(self, run):
        weight = torch.ones(1, requires_grad=True)
        for size in (1, 1, 1, 100):
            if size > 1:
                run.changed()
            with run.region("step"):
                (weight * torch.ones(size)).square().sum().backward()


def test_fused_recurrent_layers_are_not_predictable():
    with pytest.raises(Missing, match=r"\(LSTM\) runs in a fused kernel"):
        predict(Recurrent())


def test_what_changes_is_not_predictable_from_its_first_steps():
    with pytest.raises(Missing, match="workload 'growing' keeps changes while it runs"):
        predict(Growing())


def test_what_changes_is_audited_to_its_end():
    kept = audit(Growing(), 0, torch.device("cpu"))
    assert kept.total >= 400
