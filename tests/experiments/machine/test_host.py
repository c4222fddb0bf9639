"""What is asked of the host."""

import gc

from experiments.machine.host import without_pauses


def test_the_collector_leaves_alone_what_was_there():
    before = gc.get_freeze_count()
    with without_pauses():
        assert gc.get_freeze_count() > before + 10_000
    assert gc.get_freeze_count() == 0
