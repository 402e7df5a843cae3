"""Which events of an earlier record stay when a pass of its cell runs again."""

import pytest

from sketchbench.execute.schedule import AUDIT, RESULT, _holds, _tells

EPOCH = {"name": "epoch", "what": "epoch"}
BUSY = {"name": "contention", "what": "contention", "session": 1}


@pytest.mark.parametrize(
    ("event", "timed", "again", "stays"),
    [
        (EPOCH, {1}, False, True),  # an audit ran: what the result pass told still holds
        (EPOCH, {1}, True, False),  # the result pass ran again, and told its own
        (BUSY, {1}, False, True),
        (BUSY, {2}, True, False),  # no time of that session is kept
        (BUSY, {1, 2}, True, True),  # some time of it is
        (BUSY, set(), False, False),
    ],
)
def test_an_event_stays_with_what_it_tells_of(event, timed, again, stays):
    assert _holds(event, timed, again) is stays


@pytest.mark.parametrize(
    ("event", "stage", "told", "tells"),
    [
        (EPOCH, RESULT, True, True),
        (EPOCH, AUDIT, True, False),  # the result pass said it
        (EPOCH, AUDIT, False, True),  # nobody else will
        (BUSY, AUDIT, True, True),
        ({"name": "warning", "what": "…"}, AUDIT, True, True),
    ],
)
def test_an_audit_repeats_nothing(event, stage, told, tells):
    assert _tells(event, stage, told) is tells
