"""Cells: their configuration, identity and request; the outline of a suite."""

import json
import pickle
from dataclasses import replace

from sketchbench.suite import rebuild

TEXT = """\
suite: demo
title: Demo
seeds: 2
experiments:
  - name: a
    title: First
    workload: {use: train, task: digits, optimizer: adam}
    metrics: [accuracy, accuracy@train, step_time@build, {use: time_to_target, target: 0.5}]
    matrix:
      workload.activation: {exact: null, u: {use: unbiased, rank: 4}}
    baseline: exact
    control: u
"""


def test_the_configuration_holds_no_names(read):
    cell = read(TEXT, device="cuda").cells[1]
    assert cell.config() == {
        "workload": {
            "use": "train",
            "task": {"use": "digits", "train_limit": None, "augment": False},
            "model": {"use": "mlp", "hidden": [4, 4]},
            "optimizer": {"use": "adam", "lr": 1e-3},
            "activation": {"use": "unbiased", "rank": 4},
            "epochs": 1,
            "batch_size": 64,
            "note": "",
        },
        "seed": 0,
        "device": "cuda",
    }


def test_the_id_is_that_of_the_configuration(read):
    import hashlib

    for cell in read(TEXT).cells:
        text = json.dumps(cell.config(), sort_keys=True, separators=(",", ":"))
        assert cell.id == hashlib.sha256(text.encode()).hexdigest()[:16]
        assert replace(cell, _workload_json="").id == cell.id


def test_the_id_ignores_labels_names_and_metrics(read):
    other = TEXT.replace("demo", "x").replace("name: a", "name: b").replace("First", "Second")
    other = other.replace("exact", "plain").replace("accuracy@train, ", "")
    assert [c.id for c in read(TEXT).cells] == [c.id for c in read(other).cells]


def test_the_id_changes_with_every_parameter_seed_and_device(read):
    def ids(text=TEXT, **options):
        return {cell.id for cell in read(text, **options).cells}

    assert len(ids()) == 4
    for other in (
        ids(device="cuda"),
        ids(sets=["workload.epochs=2"]),
        ids(sets=["workload.optimizer.lr=2.0e-3"]),
        ids(sets=["workload.model.hidden=[4]"]),
        ids(TEXT.replace("seeds: 2", "seeds: [2, 3]")),
    ):
        assert not ids() & other


def test_writing_a_default_or_another_order_keeps_the_id(read):
    text = TEXT.replace(
        "{use: train, task: digits, optimizer: adam}",
        "{epochs: 1, optimizer: {lr: 0.001, use: adam}, task: {use: digits}, use: train}",
    )
    assert [c.id for c in read(TEXT).cells] == [c.id for c in read(text).cells]


def test_a_request_survives_json_and_is_rebuilt(read, stock):
    for cell in read(TEXT).cells:
        request = json.loads(json.dumps(cell.request()))
        assert rebuild(request, stock) == (cell.workload, cell.metrics, cell.seed, cell.device)


def test_cells_can_be_hashed(read):
    cells = read(TEXT).cells
    assert len({*cells, *read(TEXT).cells}) == len(cells)


def test_cells_can_be_pickled(read):
    cell = read(TEXT).cells[0]
    again = pickle.loads(pickle.dumps(replace(cell, workload=None, metrics=())))
    assert again.axes == cell.axes


def test_the_outline(read):
    suite = read(TEXT)
    outline = suite.outline()
    assert json.loads(json.dumps(outline)) == outline
    accuracy = {
        "label": "accuracy",
        "name": "accuracy",
        "metric": {"use": "accuracy", "top": 1},
        "where": "test",
        "unit": "fraction",
        "direction": "higher",
        "margin": 0.005,
        "relative": False,
        "derived": False,
        "breakdown": False,
    }
    (experiment,) = outline.pop("experiments")
    assert outline == {"title": "Demo"}
    metrics = experiment.pop("metrics")
    assert metrics[:2] == [accuracy, accuracy | {"label": "accuracy@train", "where": "train"}]
    assert [m["label"] for m in metrics[2:]] == ["step_time@build", "time_to_target(target=0.5)"]
    assert [(m["where"], m["derived"]) for m in metrics[2:]] == [("build", False), ("", True)]
    assert experiment == {
        "name": "a",
        "title": "First",
        "axes": {"workload.activation": ["exact", "u"]},
        "method_axis": "workload.activation",
        "baseline": "exact",
        "control": "u",
        "sort": None,
        "tune": None,
    }


def test_a_point_is_validated_once_for_all_seeds(read):
    cells = read(TEXT).cells
    assert len({id(cell.workload) for cell in cells}) == 2


def test_what_fills_a_slot_at_many_points_is_validated_once(read):
    cells = read(TEXT).cells
    assert cells[0].workload.optimizer is cells[1].workload.optimizer
