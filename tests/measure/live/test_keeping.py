import pytest
import torch
from torch import nn
from torch.autograd import graph
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from sketchbench import Missing, Workload
from sketchbench.audit import audit
from sketchbench.measure import Keeping, Memory
from sketchbench.protocols import Watched

CPU = torch.device("cpu")
FLOAT = 4
BATCH, WIDTH = 8, 32
ROWS = BATCH * WIDTH * FLOAT


def workload(build, step=lambda model, x: model(x).sum().backward(), batch=(BATCH, WIDTH)):
    """Return a workload that trains what `build` returns on one batch."""

    class Training(Workload):
        name = "of-the-test"

        def run(self, run):
            model, x = build(), torch.ones(batch)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            run.watch(model=model, optimizer=optimizer, inputs=x)
            for _ in range(9):
                with run.region("step"):
                    optimizer.zero_grad()
                    step(model, x)
                    optimizer.step()

    return Training()


class NoGradient(torch.autograd.Function):
    """x Wᵀ whose weight learns nothing."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad):
        return grad @ ctx.saved_tensors[0], None


class Forgetful(nn.Linear):
    def forward(self, x):
        return NoGradient.apply(x, self.weight)


def chain(layer=nn.Linear):
    pairs = [each for _ in range(3) for each in (layer(WIDTH, WIDTH, bias=False), nn.ReLU())]
    return nn.Sequential(*pairs)


def activation_bytes(build, **more):
    """Return what the metric of that name would read, taken with its own meter."""
    model, x = build(), torch.ones(BATCH, WIDTH)
    memory = Memory(CPU, Watched(model, None, (x,)))
    memory.start()
    more.get("step", lambda model, x: model(x).sum().backward())(model, x)
    return sum(memory.stop().footprint.kept.values())


def by_birth(found):
    return {kept.born: kept for kept in found.kept if kept.size > FLOAT}


def test_an_output_of_relu_is_kept_by_it_and_by_the_next_layer():
    found = audit(workload(chain), 0, CPU)
    kept = by_birth(found)
    assert {born: each.keepers for born, each in kept.items()} == {
        "1": ("1", "2"),
        "3": ("3", "4"),
        "5": ("5",),
    }
    assert found.total == 3 * ROWS + FLOAT == activation_bytes(chain)
    assert kept["1"].shape == (BATCH, WIDTH)
    assert kept["1"].dtype == "float32"
    assert kept["1"].category == "activations"
    assert [name for name, _ in found.modules] == ["", "0", "1", "2", "3", "4", "5"]
    assert dict(found.modules)["1"] == "ReLU"


def test_a_layer_that_forgets_its_input_saves_nothing_beside_a_plain_relu():
    found = audit(workload(lambda: chain(Forgetful)), 0, CPU)
    assert {born: each.keepers for born, each in by_birth(found).items()} == {
        "1": ("1",),
        "3": ("3",),
        "5": ("5",),
    }
    exact = audit(workload(chain), 0, CPU)
    assert found.total == exact.total == activation_bytes(lambda: chain(Forgetful))


def test_without_a_relu_the_forgetful_layer_saves_its_input():
    def linear(layer):
        return lambda: nn.Sequential(*(layer(WIDTH, WIDTH, bias=False) for _ in range(3)))

    exact, found = (audit(workload(linear(each)), 0, CPU) for each in (nn.Linear, Forgetful))
    assert exact.total - found.total == 2 * ROWS  # the inputs of the second and third layers


def test_a_tensor_on_a_context_is_kept_without_a_keeper():
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.hidden = x * 2
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.hidden

    class Hides(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return Hidden.apply(x * self.scale)

    found = audit(workload(lambda: nn.Sequential(Hides())), 0, CPU)
    (hidden,) = (kept for kept in found.kept if kept.size == ROWS and not kept.keepers)
    assert (hidden.born, hidden.category) == ("0", "activations")


@pytest.mark.parametrize("reentrant", [True, False])
def test_inputs_of_checkpoints_are_kept_where_the_checkpoint_is(reentrant):
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = chain(), chain()

        def forward(self, x):
            return checkpoint(self.second, self.first(x), use_reentrant=reentrant)

    found = audit(workload(Again), 0, CPU)
    kept = {each.born: each.keepers for each in found.kept if each.size == ROWS}
    assert kept.pop("first.5") == ("first.5", "")  # the checkpoint is the outermost module's
    assert kept["first.1"] == ("first.1", "first.2")
    assert set(kept) - {""} <= {"first.1", "first.3", "second.5"}
    assert found.total == activation_bytes(Again)


class Transforms(nn.Module):
    """Layers around a gradient that `torch.func` takes in the midst of the forward pass."""

    def __init__(self):
        super().__init__()
        self.before, self.after = chain(), chain()

    def forward(self, x):
        x = self.before(x)
        slope = torch.func.grad(lambda v: v.sin().sum())(x.detach())
        slope = slope + torch.func.vmap(torch.func.grad(lambda v: v.pow(2).sum()))(x.detach())
        return self.after(x * slope)


def test_transforms_of_functions_lose_keepers_and_no_bytes():
    found = audit(workload(Transforms), 0, CPU)
    assert found.total == activation_bytes(Transforms)
    kept = {each.born: each.keepers for each in found.kept}
    assert kept["before.1"] == ("before.1", "before.2")
    assert kept["after.1"] == ("after.1", "after.2")


def test_a_module_that_is_called_twice_keeps_under_its_one_name():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU())

        def forward(self, x):
            return self.layer(self.layer(x))

    found = audit(workload(Twice), 0, CPU)
    keepers = [each.keepers for each in found.kept if each.size == ROWS]
    assert keepers == [("layer.1", "layer.0"), ("layer.1",)]


def test_what_is_kept_outside_the_model_belongs_to_no_module():
    def step(model, x):
        model(x).exp().sum().backward()

    found = audit(workload(chain, step), 0, CPU)
    exp = [each for each in found.kept if "exp" in each.op]
    assert [each.born for each in exp] == [""]
    assert [each.keepers for each in exp] == [("",)]


def _nothing_is_left():
    return (
        _get_current_dispatch_mode_stack(),
        list(modules._global_forward_hooks),
        list(modules._global_forward_pre_hooks),
        torch._C._autograd._top_saved_tensors_default_hooks(True),
        graph.disable_saved_tensors_hooks,
    )


def test_a_model_that_fails_ends_the_audit_and_leaves_no_hook():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = chain()

        def forward(self, x):
            self.inner(x)
            raise ArithmeticError("no forward")

    before = _nothing_is_left()
    with pytest.raises(ArithmeticError, match="no forward"):
        audit(workload(Fails), 0, CPU)
    assert _nothing_is_left() == before


def test_a_child_that_fails_and_is_caught_leaves_its_parent_at_work():
    class Bad(nn.Module):
        def forward(self, x):
            raise ArithmeticError

    class Catches(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.layer = nn.Sequential(Bad()), nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            try:
                return self.bad(x)
            except ArithmeticError:
                return self.layer(x).exp()

    found = audit(workload(Catches), 0, CPU)
    assert [each.keepers for each in found.kept if "exp" in each.op] == [("",)]
    assert [each.born for each in found.kept if "exp" in each.op] == [""]


def test_a_beginning_that_fails_leaves_no_hook():
    before = _nothing_is_left()
    with pytest.raises(AttributeError):
        Keeping(CPU, Watched(None, object())).start()
    assert _nothing_is_left() == before


def test_the_hooks_of_a_user_still_refuse_transforms():
    def step(model, x):
        with graph.save_on_cpu():
            torch.func.grad(lambda v: v.sum())(x)

    with pytest.raises(RuntimeError, match="saved tensor hooks"):
        audit(workload(chain, step), 0, CPU)


def test_gradients_are_bit_equal_under_the_meter():
    def gradients(meter):
        torch.manual_seed(0)
        model, x = chain(), torch.randn(BATCH, WIDTH)
        keeping = Keeping(CPU, Watched(model, None, (x,)))
        if meter:
            keeping.start()
        (first,) = torch.autograd.grad(model(x).pow(3).sum(), model[0].weight, create_graph=True)
        first.pow(2).sum().backward()
        if meter:
            keeping.stop()
        return [parameter.grad for parameter in model.parameters()]

    assert all(map(torch.equal, gradients(True), gradients(False)))


def test_a_workload_without_a_step_cannot_be_audited():
    class Idle(Workload):
        name = "idle"

        def run(self, run):
            pass

    with pytest.raises(Missing, match="workload 'idle' never came to a region 'step'"):
        audit(Idle(), 0, CPU)
