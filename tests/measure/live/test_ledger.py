from sketchbench.measure.ledger import CATEGORIES, Block, Ledger, events


def footprint(ledger, **state):
    return ledger.footprint(state)


def test_an_empty_region_is_empty():
    found = footprint(Ledger())
    assert (found.start, found.peak, found.during) == (0, 0, "the beginning")
    assert (found.at_peak, found.highest, found.kept, found.kept_blocks) == ({}, {}, {}, [])


def test_the_peak_is_the_first_time_that_most_is_alive():
    ledger = Ledger()
    ledger.was_there(Block(10, "before", label="parameters"))
    first, second = Block(5, "forward", op="one"), Block(5, "forward", op="two")
    ledger.born(first)
    ledger.died(first)
    ledger.born(second)
    found = footprint(ledger)
    assert (found.start, found.peak, found.during) == (10, 15, "one, forward")
    assert found.at_peak == {"parameters": 10, "forward_temporaries": 5}


def test_a_label_that_comes_late_holds_from_birth():
    ledger, block = Ledger(), Block(7, "backward", op="mm")
    ledger.born(block)
    block.label = "gradients"
    assert footprint(ledger).at_peak == {"gradients": 7}


def test_each_category_has_its_own_highest():
    ledger = Ledger()
    sketch, other = Block(8, "forward", label="sketches"), Block(9, "optimizer")
    for block in (sketch, other):
        ledger.born(block)
        ledger.died(block)
    found = footprint(ledger)
    assert found.highest == {"sketches": 8, "optimizer_temporaries": 9}
    assert found.peak == 9


def test_a_resize_is_a_change_of_the_same_block():
    ledger, block = Ledger(), Block(4, "forward")
    ledger.born(block)
    ledger.resized(block, 10)
    ledger.resized(block, 0)
    ledger.died(block)
    found = footprint(ledger)
    assert found.peak == 10
    assert list(events(found)) == [(0, 4), (0, 6), (0, -10), (0, 0)]


def test_only_what_forward_bore_is_kept():
    ledger = Ledger()
    blocks = {
        "old": Block(1, "before"),
        "forward": Block(2, "forward"),
        "sketch": Block(4, "forward", label="sketches"),
        "labelled": Block(8, "forward", label="inputs"),
        "backward": Block(16, "backward"),
        "state": Block(32, "before", label="sketches", state=True),
    }
    for block in blocks.values():
        ledger.born(block)
    ledger.begin_backward(list(blocks.values()))
    found = footprint(ledger)
    assert found.kept == {"activations": 2, "sketches": 4}
    assert found.kept_blocks == [blocks["forward"], blocks["sketch"]]


def test_the_backward_pass_that_keeps_most_is_told():
    ledger = Ledger()
    small, large = Block(3, "forward"), Block(5, "forward")
    ledger.born(small)
    ledger.begin_backward([small])
    ledger.died(small)
    ledger.born(large)
    ledger.begin_backward([large])
    ledger.died(large)
    ledger.begin_backward([])
    assert footprint(ledger).kept == {"activations": 5}


def test_what_is_kept_is_what_it_was_then():
    ledger, block = Ledger(), Block(5, "forward")
    ledger.born(block)
    ledger.begin_backward([block])
    ledger.resized(block, 50)
    assert footprint(ledger).kept == {"activations": 5}


def test_parts_come_in_the_order_of_the_categories_and_without_zeros():
    ledger = Ledger()
    for label in reversed(CATEGORIES):
        ledger.was_there(Block(1, "before", label=label))
    ledger.was_there(Block(0, "before", label="buffers"))
    assert list(footprint(ledger).at_peak) == list(CATEGORIES)


def test_the_parts_add_up_to_the_peak():
    ledger, alive = Ledger(), []
    for i in range(1, 200):
        phase = ("forward", "backward", "optimizer")[i % 3]
        alive.append(Block(i * i % 37, phase))
        ledger.born(alive[-1])
        if i % 2:
            ledger.died(alive.pop(i * 7 % len(alive)))
    found = footprint(ledger)
    assert sum(found.at_peak.values()) == found.peak
    total = peak = 0
    for _, change in events(found):
        total += change
        peak = max(peak, total)
    assert (peak, total) == (found.peak, sum(block.size for block in alive))
