import pytest
import torch

from sketchbench import Predictions
from sketchbench.builtin import RelativeL2


def test_it_is_the_distance_over_the_exact_norm():
    outputs = torch.tensor([[3.0, 9.0], [4.0, 9.0], [1.0, 9.0]])
    targets = torch.tensor([[0.0, 3.0], [0.0, 4.0], [0.0, 0.0]])
    assert RelativeL2()(Predictions(outputs, targets, 0.0)) == pytest.approx(1 / 5)


@pytest.mark.parametrize("targets", [torch.tensor([1, 2]), torch.tensor([1.0, 2.0])])
def test_classes_are_refused_in_one_line(targets):
    with pytest.raises(ValueError, match="relative_l2: needs targets") as caught:
        RelativeL2()(Predictions(torch.zeros(2, 3), targets, 0.0))
    assert "\n" not in str(caught.value)
