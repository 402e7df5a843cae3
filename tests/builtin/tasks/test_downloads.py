from sketchbench.builtin.tasks.downloads import throttled


def test_throttled_progress_speaks_at_once_and_then_seldom():
    said = []
    say = throttled(said.append, seconds=3600)
    for word in ("first", "second", "third"):
        say(word)
    assert said == ["first"]


def test_throttled_progress_speaks_again_when_time_has_passed():
    said = []
    say = throttled(said.append, seconds=0)
    say("first")
    say("second")
    assert said == ["first", "second"]
