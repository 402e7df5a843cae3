"""Scores of the spectra of factors, on eigenvalues written down."""

import math

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Missing
from sketchbench.builtin import IntrinsicDimension, Rotation, TopMass
from sketchbench.builtin.workloads.factors import FactorSpectra


def spectra(*values, rotation=None, leading=2):
    names = tuple("abcdef"[: len(values)])
    found = tuple(torch.tensor(v, dtype=torch.float64) for v in values)
    return FactorSpectra(names, found, rotation or (math.nan,) * len(values), leading)


FLAT, STEEP, EMPTY = [1.0] * 8, [8.0, 4.0, 2.0, 2.0], [0.0] * 8


@pytest.mark.parametrize(
    ("over", "expected"), [("median", 4.5), ("mean", (8 + 2 + 4.5) / 3), ("max", 8)]
)
def test_intrinsic_dimension_is_the_trace_over_the_largest(over, expected):
    found = spectra(FLAT, STEEP, [2.0, 2.0, 2.0, 2.0, 1.0], EMPTY)
    assert IntrinsicDimension(over=over)(found) == pytest.approx(expected)


def test_small_factors_can_be_left_out():
    assert IntrinsicDimension(smallest=5)(spectra(FLAT, STEEP)) == 8
    with pytest.raises(Missing, match="no factor of size 9 or more"):
        IntrinsicDimension(smallest=9)(spectra(FLAT, STEEP))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (2 / 8 + 12 / 16) / 2),
        ({"k": 1}, (1 / 8 + 8 / 16) / 2),
        ({"k": 4}, 4 / 8),  # of the factor of 4 it is all, whatever it holds: not counted
        ({"fraction": 0.25}, (2 / 8 + 8 / 16) / 2),
        ({"fraction": 0.5}, (4 / 8 + 12 / 16) / 2),
        ({"fraction": 0.01}, (1 / 8 + 8 / 16) / 2),  # one at least
        ({"over": "min"}, 2 / 8),
        ({"over": "mean"}, (2 / 8 + 12 / 16) / 2),
    ],
)
def test_top_mass_is_the_share_of_the_largest(fields, expected):
    assert TopMass(**fields)(spectra(FLAT, STEEP, EMPTY)) == pytest.approx(expected)


def test_of_no_larger_factor_there_is_no_top_mass():
    with pytest.raises(Missing, match="no factor is larger than 8"):
        TopMass(k=8)(spectra(FLAT, STEEP))


def test_a_fraction_and_a_number_of_eigenvalues_exclude_each_other():
    with pytest.raises(ValidationError, match="top_mass: k 2 and fraction 0.5 exclude each other"):
        TopMass(k=2, fraction=0.5)


def test_rotation_is_that_of_the_factors_that_have_one():
    found = spectra(FLAT, STEEP, STEEP, rotation=(math.nan, 0.2, 0.6))
    assert Rotation()(found) == pytest.approx(0.4)
    assert Rotation(over="max")(found) == pytest.approx(0.6)


def test_without_a_checkpoint_before_rotation_is_missing():
    with pytest.raises(Missing, match="no factor has a space of dimension 2 at two checkpoints"):
        Rotation()(spectra(FLAT, STEEP))


def test_of_factors_of_zeros_there_is_nothing_to_tell():
    for score in (IntrinsicDimension(), TopMass(), Rotation()):
        with pytest.raises(Missing):
            score(spectra(EMPTY))
