import subprocess
import sys

import pytest

from sketchbench import builtin
from sketchbench.kinds import Model, Task, Workload
from sketchbench.metric import Metric

RECIPES = [
    *builtin.register_tasks(),
    *builtin.register_models(),
    *builtin.register_metrics(),
    *builtin.register_workloads(),
]
SNAKE = [recipe.name for recipe in builtin.register_metrics()]
WITH_DEFAULTS = [
    recipe
    for recipe in RECIPES
    if not any(info.is_required() for info in recipe.model_fields.values())
]


@pytest.mark.parametrize(
    ("hook", "kind"),
    [
        (builtin.register_tasks, Task),
        (builtin.register_models, Model),
        (builtin.register_metrics, Metric),
        (builtin.register_workloads, Workload),
    ],
)
def test_each_hook_returns_recipes_of_its_kind(hook, kind):
    assert all(issubclass(recipe, kind) for recipe in hook())


def test_names_are_known_to_suites():
    assert {recipe.name for recipe in RECIPES} == {
        *("cifar10", "digits", "mnist", "hybrid-cnn", "mlp", "resnet20", "distortion", "train"),
        *("gpt", "random-tokens", "tiny-shakespeare"),
        *("poisson", "pinn", "relative_l2", "shifted", "synthetic-planted"),
        *("gnn", "permuted", "japanese-vowels", "solubility"),
        *("coherence", "incoherence"),
        *("gradient-quality", "gradient_cosine", "gradient_bias", "gradient_variance"),
        *("mean_gradient_error", "cosine", "stable_rank", "effective_rank"),
        *("reconstruction", "tail_ratio", "reconstruction_error", "settling_steps"),
        *("recovery_half_life", "skill"),
        *("monitor", "rank_correlation", "log_correlation", "monitor_bytes"),
        *("detection_delay", "false_alarms"),
        *("accuracy", "build_time", "loss", "relative_error", "step_time", "time_to_target"),
        *("peak_bytes", "activation_bytes", "sketch_bytes", "state_bytes", "workspace_bytes"),
        *("requested_bytes", "allocated_bytes", "reserved_bytes", "device_total_bytes"),
        *("step_flops", "build_flops"),
        *("stream", "covariance_error", "lower_violation", "upper_violation", "apply_time"),
        *("escaped_mass", "escaped_over_bound", "escaped_share", "tail_share"),
        *("spectrum-probe", "gaussian-control", "intrinsic_dimension", "top_mass", "rotation"),
        "vit",
        *("regret", "average_regret", "cumulative_loss", "mistakes", "regret_over_bound"),
        *("hessian-spectrum", "half", "some-classes", "top_eigenvalue_error", "top_eigenvalue"),
        *("least_eigenvalue_error", "rneg", "rneg_floor", "outliers", "excess_outliers"),
        *("outlier_share", "basis_bytes", "curvature_trace", "negative_mass"),
        *("a9a", "binary", "linear-costs", "logistic-stream"),
        *("kappa", "conditional_kappa", "norm_bias", "failure_rate", "failure_bound"),
        *("inner_rmse", "throughput", "adjoint_time", "copy_time", "ns_per_element", "copy_share"),
        *("linear-algebra", "residual_ratio", "lsqr_iterations", "lsqr_saving"),
        *("embedding_distortion", "low_rank_ratio"),
        *("attribution", "pearson", "spearman", "top_k_overlap", "layer_pearson", "lds"),
        *("implicit-explicit", "intrinsic-dimension", "subspace_dimension", "dimension_share"),
        *("search_steps", "accuracy_margin", "compression_bound"),
        *("minilm", "speakers"),
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_and_every_field_is_described(recipe):
    assert recipe.__doc__
    assert all(info.description for info in recipe.model_fields.values())


@pytest.mark.parametrize("recipe", WITH_DEFAULTS, ids=lambda recipe: recipe.name)
def test_configurations_come_back(recipe):
    made = recipe()
    assert recipe.model_validate(made.config()) == made
    hash(made)


def test_importing_starts_no_thread_and_no_heavy_library():
    code = (
        "import sys, numpy, psutil, torch; before = psutil.Process().num_threads(); "
        "import sketchbench.builtin; assert psutil.Process().num_threads() == before; "
        "assert not {'sklearn', 'scipy', 'pooch', 'safetensors', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
