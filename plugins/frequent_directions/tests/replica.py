"""One of two replicas under DistributedDataParallel; run as a script by `test_replicas.py`.

Words: rank, rendezvous file, where to save the parameters and the state, recipes as JSON.
"""

import json
import sys

import torch
import torch.distributed as dist
from sketchbench_frequent_directions import SShampoo
from torch import Generator, nn
from torch.nn.parallel import DistributedDataParallel

RANK, MEETING, OUT, RECIPES = int(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
STEPS = 5

if not dist.is_gloo_available():
    sys.exit(77)
dist.init_process_group("gloo", init_method=f"file://{MEETING}", rank=RANK, world_size=2)
saved = []
for fields in RECIPES:
    torch.manual_seed(RANK)  # DistributedDataParallel broadcasts the first replica's weights
    layers = nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 10), nn.Linear(10, 3))
    model = DistributedDataParallel(layers)
    optimizer = SShampoo(**fields).build(model.parameters())
    data = Generator().manual_seed(100 + RANK)  # each replica has batches of its own
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.randn(8, 12, generator=data)).square().mean().backward()
        optimizer.step()
    seen = torch.randn(1, generator=data)  # differs: what they were given wasn't the same
    state = optimizer.state_dict()["state"]
    saved.append({"params": list(layers.state_dict().values()), "state": state, "seen": seen})
torch.save(saved, OUT)
dist.destroy_process_group()
