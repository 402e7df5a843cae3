"""Numbers that count what is done with them, and algorithms as a textbook writes them."""

import math
import sys

import pytest
import torch

from sketchbench.measure.flops import Flops


@pytest.fixture
def count():
    """Run something under a meter; return the reading."""

    def run(work):
        meter = Flops(torch.device("cpu"))
        meter.start()
        try:
            work()
        finally:
            reading = meter.stop()
        return reading

    return run


@pytest.fixture
def naive():
    """The algorithms below."""
    return sys.modules[__name__]


@pytest.fixture
def rand():
    """Draw standard normal numbers, the same ones each time."""

    def draw(*shape, dtype=torch.float64):
        return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))

    return draw


class Number:
    """A real number that counts what is done with it."""

    multiplications = additions = 0

    def __init__(self, value):
        self.value = float(value)

    def __add__(self, other):
        Number.additions += 1
        return Number(self.value + other.value)

    def __sub__(self, other):
        Number.additions += 1
        return Number(self.value - other.value)

    def __mul__(self, other):
        Number.multiplications += 1
        return Number(self.value * other.value)

    def __truediv__(self, other):
        Number.multiplications += 1
        return Number(self.value / other.value)

    def __neg__(self):
        return Number(-self.value)

    def sqrt(self):
        Number.multiplications += 1
        return Number(math.sqrt(self.value))


def numbers(tensor):
    return [numbers(row) for row in tensor] if tensor.ndim else Number(tensor)


def identity(m, n):
    return numbers(torch.eye(m, n, dtype=torch.float64))


def values(rows):
    return torch.tensor([[x.value for x in row] for row in rows], dtype=torch.float64)


def done(work, *arguments):
    """Return what `work` returns, and (multiplications, additions) that it took."""
    Number.multiplications = Number.additions = 0
    result = work(*arguments)
    return result, (Number.multiplications, Number.additions)


def dot(a, b):
    total = Number(0)
    for x, y in zip(a, b, strict=True):
        total = total + x * y
    return total


def inner(a, b):
    """A dot product that begins with its first term."""
    total, *terms = [x * y for x, y in zip(a, b, strict=True)]
    for term in terms:
        total = total + term
    return total


def reflect(rows, v, tau, first, columns):
    """Apply I − τvvᵀ to the given columns of rows[first:], v with its leading 1 as LAPACK does."""
    for j in columns:
        w = tau * dot(v, [row[j] for row in rows[first:]])
        for row, x in zip(rows[first:], v, strict=True):
            row[j] = row[j] - x * w


def householder(rows):
    """Reduce rows (m, n) to R in place; return the reflectors (v, τ)."""
    m, n = len(rows), len(rows[0])
    found = []
    for k in range(min(m, n)):
        head, tail = rows[k][k], [row[k] for row in rows[k + 1 :]]
        length = (head * head + dot(tail, tail)).sqrt()
        pivot = -length if head.value >= 0 else length
        scale = Number(1) / (head - pivot)
        tau = (pivot - head) / pivot
        v = [Number(1), *(x * scale for x in tail)]
        reflect(rows, v, tau, k, range(k + 1, n))
        rows[k][k] = pivot
        for row in rows[k + 1 :]:
            row[k] = Number(0)
        found.append((v, tau))
    return found


def apply_q(reflectors, rows):
    for k, (v, tau) in reversed(list(enumerate(reflectors))):
        reflect(rows, v, tau, k, range(len(rows[0])))
    return rows


def first_columns(reflectors, m, n):
    """Q's first n columns, from the last reflector to the first, so that zeros stay untouched."""
    q = identity(m, n)
    for k, (v, tau) in reversed(list(enumerate(reflectors))):
        reflect(q, v, tau, k, range(k + 1, n))
        column = [-(tau * x) for x in v]
        column[0] = Number(1) + column[0]
        for row, x in zip(q[k:], column, strict=True):
            row[k] = x
    return q


def bidiagonalize(rows):
    m, n = len(rows), len(rows[0])
    for k in range(n):
        householder_step(rows, k, k, range(k + 1, n))
        if k < n - 2:
            flipped = [list(column) for column in zip(*rows, strict=True)]
            householder_step(flipped, k + 1, k, range(k + 1, m))
            rows[:] = [list(row) for row in zip(*flipped, strict=True)]
    return rows


def householder_step(rows, first, column, others):
    head, tail = rows[first][column], [row[column] for row in rows[first + 1 :]]
    length = (head * head + dot(tail, tail)).sqrt()
    pivot = -length if head.value >= 0 else length
    scale = Number(1) / (head - pivot)
    v = [Number(1), *(x * scale for x in tail)]
    reflect(rows, v, (pivot - head) / pivot, first, others)
    rows[first][column] = pivot
    for row in rows[first + 1 :]:
        row[column] = Number(0)


def tridiagonalize(a):
    """Reduce a symmetric a (n, n), of which the lower half alone is updated."""
    n = len(a)
    for k in range(n - 2):
        tail = [a[i][k] for i in range(k + 1, n)]
        length = dot(tail, tail).sqrt()
        pivot = -length if tail[0].value >= 0 else length
        scale = Number(1) / (tail[0] - pivot)
        tau = (pivot - tail[0]) / pivot
        v = [Number(1), *(x * scale for x in tail[1:])]
        rest = range(k + 1, n)
        p = [tau * dot([a[max(i, j)][min(i, j)] for j in rest], v) for i in rest]
        half = Number(0.5) * tau * dot(p, v)
        w = [x - half * y for x, y in zip(p, v, strict=True)]
        for i in rest:
            for j in range(k + 1, i + 1):
                a[i][j] = a[i][j] - v[i - k - 1] * w[j - k - 1] - w[i - k - 1] * v[j - k - 1]
        a[k + 1][k] = pivot
        for i in range(k + 2, n):
            a[i][k] = Number(0)
    return a


def cholesky(a):
    n = len(a)
    for k in range(n):
        a[k][k] = a[k][k].sqrt()
        for i in range(k + 1, n):
            a[i][k] = a[i][k] / a[k][k]
        for j in range(k + 1, n):
            for i in range(j, n):
                a[i][j] = a[i][j] - a[i][k] * a[j][k]
    return a


def lu(a):
    m, n = len(a), len(a[0])
    for k in range(min(m, n)):
        for i in range(k + 1, m):
            a[i][k] = a[i][k] / a[k][k]
            for j in range(k + 1, n):
                a[i][j] = a[i][j] - a[i][k] * a[k][j]
    return a


def substitute(lower, right, unit=False):
    n, columns = len(lower), len(right[0])
    for j in range(columns):
        for i in range(n):
            for k in range(i):
                right[i][j] = right[i][j] - lower[i][k] * right[k][j]
            if not unit:
                right[i][j] = right[i][j] / lower[i][i]
    return right


def inverse_from(lower):
    """Return the lower half of L⁻ᵀL⁻¹."""
    n = len(lower)
    inverse = identity(n, n)
    for j in range(n):
        inverse[j][j] = Number(1) / lower[j][j]
        for i in range(j + 1, n):
            below = inner([lower[i][k] for k in range(j, i)], [inverse[k][j] for k in range(j, i)])
            inverse[i][j] = -(below / lower[i][i])
    columns = [list(column) for column in zip(*inverse, strict=True)]
    return [[inner(columns[i][i:], columns[j][i:]) for j in range(i + 1)] for i in range(n)]


def transform(x):
    """Fast Fourier transform of (re, im) pairs, radix 2, every twiddle factor multiplied."""
    if len(x) == 1:
        return x
    even, odd = transform(x[::2]), transform(x[1::2])
    turned = []
    for k, (re, im) in enumerate(odd):
        angle = -2 * math.pi * k / len(x)
        c, s = Number(math.cos(angle)), Number(math.sin(angle))
        turned.append((re * c - im * s, re * s + im * c))
    pairs = list(zip(even, turned, strict=True))
    return [(a[0] + b[0], a[1] + b[1]) for a, b in pairs] + [
        (a[0] - b[0], a[1] - b[1]) for a, b in pairs
    ]


def walsh(x):
    if len(x) == 1:
        return x
    half = len(x) // 2
    a, b = walsh(x[:half]), walsh(x[half:])
    pairs = list(zip(a, b, strict=True))
    return [x + y for x, y in pairs] + [x - y for x, y in pairs]
