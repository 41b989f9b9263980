"""Memory does not depend on the number of slides."""

from typing import Any

MIB = 2**20
TILE_FEATURES = 1024 * 4
TILES = 81  # of a slide, at the least
BOUND = 6 * MIB


def test_an_extraction_of_four_times_the_slides_takes_no_more_memory(stages: Any) -> None:
    few, many = 10, 40
    assert (many - few) * TILES * TILE_FEATURES > 1.5 * BOUND, "kept features would be found"
    before, after = stages("measure", slides=[few, many])
    assert after - before < BOUND
