"""Online convex optimisation: methods whose step is η·H⁺g, and their projections onto a ball."""

from __future__ import annotations

from sketchbench_frequent_directions.online.ada_fd import AdaFD
from sketchbench_frequent_directions.online.adagrad import AdagradDiagonal, AdagradFull
from sketchbench_frequent_directions.online.fd_son import FDSON, RFDSON
from sketchbench_frequent_directions.online.ogd import OGD
from sketchbench_frequent_directions.online.s_adagrad import SAdagrad

__all__ = ["FDSON", "OGD", "RFDSON", "AdaFD", "AdagradDiagonal", "AdagradFull", "SAdagrad"]
