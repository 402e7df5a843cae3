import math

import pytest

from sketchbench.report import numerals
from sketchbench.statistics import Difference, Mean, Ratio


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (0.971234, 0.003123, "0.9712 ± 0.0031"),
        (0.971234, 0.0996, "0.97 ± 0.10"),
        (0.971234, 0.00996, "0.971 ± 0.010"),
        (0.971234, None, "0.9712"),
        (12345.678, 123.4, "12346 ± 123"),
        (12345.678, 0.5, "12345.68 ± 0.50"),
        (1 / 3, 0.0, "0.3333 ± 0"),
        (1 / 3, 1e-16, "0.3333333 ± 0"),
        (100.0, 0.0, "100 ± 0"),
        (0.0, 0.0, "0 ± 0"),
        (0.0, None, "0"),
        (0.0, 0.012, "0 ± 0.012"),
        (0.5, 3.2, "0.5 ± 3.2"),
        (1.234e-7, 2.3e-9, "(1.234 ± 0.023)e-07"),
        (1.234e-7, None, "1.234e-07"),
        (-5.678e9, 1.2e8, "(-5.68 ± 0.12)e+09"),
        (1.5e-320, 1e-321, "1.50e-320 ± 1.0e-321"),
        (math.inf, None, "inf"),
        (1.0, math.inf, "1 ± inf"),
    ],
)
def test_a_number_has_two_digits_of_its_half_width(value, half_width, text):
    assert numerals.number(value, half_width) == text


def test_a_difference_has_a_sign_and_no_digits_below_rounding():
    scale = numerals.Scale(1.0, "")
    noise = Difference(1.2e-17, 3e-17, 3, 3)
    assert scale.difference(noise, around=0.3) == "0 ± 0"
    assert scale.difference(Difference(0.01, 0.002, 3, 3), around=0.9) == "+0.0100 ± 0.0020"
    assert scale.difference(Difference(-0.01234, None, 1, 1), around=0.9) == "-0.0123"


def test_what_has_no_value_is_a_dash():
    scale = numerals.Scale(1.0, "")
    assert scale.mean(Mean(math.nan, None, 0, 3)) == "–"
    assert scale.difference(Difference(math.nan, None, 0, 3), 1.0) == "–"
    assert numerals.ratio(Ratio(math.nan, None, None, 0, 3)) == "–"


@pytest.mark.parametrize(
    ("low", "value", "high", "text"),
    [
        (0.5, 0.52, 0.541, "0.520 [0.500, 0.541]"),
        (None, 0.5, None, "0.5000"),
        (None, 1.0, None, "1.000"),
        (0.5, 0.5, 0.5, "0.5000 ± 0"),
        (10.0, 20.0, 40.0, "20 [10, 40]"),
        (0.00112, 0.1312, 17.13, "0.13 [<0.01, 17]"),
        (1e-9, 2e-9, 4e-9, "2.00e-09 [1.00e-09, 4.00e-09]"),
        (0.0, 0.5, math.inf, "0.5 [<0.01, >100]"),
    ],
)
def test_a_ratio_has_its_interval(low, value, high, text):
    assert numerals.ratio(Ratio(value, low, high, 3, 3)) == text


@pytest.mark.parametrize(
    ("unit", "values", "shown"),
    [
        ("s", [0.012, 0.015, 3.0], "ms"),
        ("s", [2e-6], "µs"),
        ("s", [1e-12], "ns"),
        ("s", [120.0], "s"),
        ("bytes", [151060484.0], "MiB"),
        ("B", [2048.0, 512.0], "KiB"),
        ("bytes", [12.0], "B"),
        ("FLOP", [2.5e9], "GFLOP"),
        ("fraction", [0.5], ""),
        ("1", [0.5], ""),
        ("nats", [0.5], "nats"),
        ("s", [], "s"),
        ("s", [0.0, math.nan], "s"),
    ],
)
def test_a_column_has_the_unit_of_its_middle_value(unit, values, shown):
    assert numerals.scale(unit, values).unit == shown


def test_a_scale_divides_value_and_half_width():
    scale = numerals.scale("s", [0.0123])
    assert scale.mean(Mean(0.0123456, 0.00012, 3, 3)) == "12.35 ± 0.12"
