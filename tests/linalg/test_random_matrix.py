import torch

from sketchbench.linalg import TILE, RandomMatrix

CPU = torch.device("cpu")


def normal(tile, generator):
    return tile.normal_(generator=generator)


def test_tiles_are_keyed_by_seed_and_index_alone():
    """A longer matrix begins with the shorter one's whole tiles."""
    height = TILE // 32  # tiles of 32 columns
    short, long = (RandomMatrix((height, n), 5, normal, CPU) for n in (64, 100))
    x = torch.zeros(100)
    x[40] = 1
    assert torch.equal(short.apply(x[:64]), long.apply(x))


def test_neighbouring_seeds_share_no_column():
    """Columns of 256 normal entries: 6 standard errors are passed with probability 2e-9 each."""
    columns = []
    for seed in (5, 6, 2**40 + 5):
        matrix = RandomMatrix((256, 300), seed, normal, CPU).apply(torch.eye(300))
        columns.append(matrix / matrix.norm(dim=1, keepdim=True))
    together = torch.cat(columns)
    cosines = (together @ together.mT).fill_diagonal_(0)
    assert float(cosines.abs().max()) <= 6 / 256**0.5
