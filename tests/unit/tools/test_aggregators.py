"""The facts in the table of aggregators, counted by hand."""

from wsi_ncmi import registry
from wsi_ncmi.tools.aggregators import facts

FACTS = {one.name: one for one in facts(10, 3)}


def test_every_aggregator_is_in_it() -> None:
    assert list(FACTS) == registry.names("aggregator")


def test_parameters_are_those_of_the_layers() -> None:
    first, attention = 10 * 256 + 256, 256 * 128 + 128
    assert FACTS["mean_pool"].parameters == first
    norm = 10 + 10
    assert FACTS["mean"].parameters == norm + first + 256 * 256 + 256
    assert FACTS["abmil"].parameters == first + 2 * attention + 128
    assert FACTS["dsmil"].parameters == 10 * 3 + 3 + (10 * 128 + 128) + (128 * 128 + 128)


def test_where_the_order_of_instances_counts() -> None:
    ordered = {name for name, one in FACTS.items() if not one.permutation_invariant}
    assert {"dtfd", "transmil"} <= ordered
    assert not ordered & {"abmil", "mean_pool", "max_pool", "dsmil", "clam_sb"}


def test_a_paper_is_linked() -> None:
    assert "[1802.04712](https://arxiv.org/abs/1802.04712)" in FACTS["abmil"].paper
    assert FACTS["clam_sb"].paper == "CLAM with a single attention branch (Lu et al. 2021)"
