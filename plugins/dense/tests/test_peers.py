"""The projectors of trak and dattri, where they are installed, and what is said where they aren't.

pip install 'sketchbench-dense[peers]'
"""

import importlib.util
import sys

import pytest
import torch
from sketchbench_dense import DattriBasic, TrakBasic
from torch import Generator

from sketchbench import Skip

CPU = torch.device("cpu")
PEERS = [TrakBasic, DattriBasic]


def built(recipe, size, seed=0):
    return recipe.build(size, Generator().manual_seed(seed), CPU)


def installed(peer):
    if importlib.util.find_spec(peer.package) is None:
        pytest.skip(f"needs {peer.package}: pip install 'sketchbench-dense[peers]'")
    return peer


@pytest.mark.parametrize("peer", PEERS)
def test_without_the_package_it_is_skipped_with_what_to_install(peer, monkeypatch):
    monkeypatch.setitem(sys.modules, peer.package, None)
    monkeypatch.setitem(sys.modules, peer.module, None)
    with pytest.raises(Skip, match=rf"{peer.name}: .*pip install 'sketchbench-dense\[peers\]'"):
        built(peer(), 10)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("entries", ["normal", "rademacher"])
@pytest.mark.parametrize("out_size", [64, 250])
def test_it_is_the_projector_scaled_and_its_transpose(peer, entries, out_size):
    s = built(installed(peer)(out_size=out_size, entries=entries), 300)
    theirs = s._made.project(torch.eye(300), 0)
    dense = s.apply(torch.eye(300, dtype=torch.float64))
    scale = out_size**-0.5 if peer is TrakBasic else 1.0
    torch.testing.assert_close(dense.float(), theirs * scale)
    assert torch.equal(s.apply(torch.eye(300)), theirs * scale)
    y = torch.randn(2, 3, out_size, generator=Generator().manual_seed(1))
    torch.testing.assert_close(s.adjoint(y), y @ dense.float().mT, rtol=0, atol=1e-5)
    assert s.apply(torch.ones(2, 3, 300)).shape == (2, 3, out_size)
    # mean of 300 squared norms, each of variance 2/D and independent: four standard errors
    assert abs(float(dense.square().sum(1).mean()) - 1) <= 4 * (2 / out_size / 300) ** 0.5


@pytest.mark.parametrize("peer", PEERS)
def test_it_holds_what_it_declares(peer):
    made = built(installed(peer)(out_size=250), 300)._made
    held = made.proj_matrix.nbytes + sum(state.nbytes for state in made.generator_states)
    assert peer(out_size=250).state_bytes(300) == held


@pytest.mark.parametrize("peer", PEERS)
def test_seeds_a_thousand_apart_share_rows(peer, monkeypatch):
    """What our law of seeds finds of both, and why these recipes draw seeds at random."""
    monkeypatch.setattr("sketchbench_dense.peers.seed_of", lambda rng: rng.initial_seed())
    first, second = (
        built(installed(peer)(out_size=200), 50, seed).apply(torch.eye(50)) for seed in (0, 1000)
    )
    assert torch.equal(first[:, 100:], second[:, :100])
