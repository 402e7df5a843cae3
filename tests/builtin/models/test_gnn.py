"""The graph network: what it may not depend on, and what it computes."""

import pytest
import torch

from sketchbench import Shapes
from sketchbench.builtin.models.gnn import GNN

NODES, FEATURES = 6, 4
SHAPES = Shapes((NODES, FEATURES + NODES), 3)


def graphs(seed=0):
    rng = torch.Generator().manual_seed(seed)
    features = torch.rand(2, NODES, FEATURES, generator=rng)
    upper = (torch.rand(2, NODES, NODES, generator=rng) < 0.5).float().triu(1)
    adjacency = upper + upper.mT
    features[:, 4:], adjacency[:, 4:], adjacency[..., 4:] = 0, 0, 0  # four nodes, two rows of none
    return features, adjacency


def built():
    torch.manual_seed(0)
    return GNN(layers=2, width=8).build(SHAPES).double()


def outputs(network, features, adjacency):
    return network(torch.cat([features, adjacency], -1).double())


def test_the_order_of_the_nodes_doesnt_matter():
    network, (features, adjacency) = built(), graphs()
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    turned = outputs(network, features[:, order], adjacency[:, order][..., order])
    torch.testing.assert_close(turned, outputs(network, features, adjacency))


def test_nodes_that_arent_there_add_nothing():
    network, (features, adjacency) = built(), graphs()
    layers = dict(network.named_parameters())
    h = features[:, :4].double()
    a = adjacency[:, :4, :4].double() + torch.eye(4)
    for name in ("1", "2"):
        for part in ("0", "2"):
            weight = layers[f"{name}.perceptron.{part}.weight"]
            h = (a @ h if part == "0" else h) @ weight.mT + layers[f"{name}.perceptron.{part}.bias"]
            h = h.relu()
    expected = h.sum(1) @ layers["4.weight"].mT + layers["4.bias"]
    torch.testing.assert_close(outputs(network, features, adjacency), expected)


def test_a_bond_matters():
    network, (features, adjacency) = built(), graphs()
    cut = adjacency.clone()
    cut[:, 0], cut[..., 0] = 0, 0
    assert not torch.allclose(
        outputs(network, features, cut), outputs(network, features, adjacency)
    )


@pytest.mark.parametrize("inputs", [(5, 5), (7,), (3, 8, 8)])
def test_what_is_no_graph_is_refused(inputs):
    with pytest.raises(ValueError, match="gnn: inputs of shape .* don't fit"):
        GNN().build(Shapes(inputs, 2))
