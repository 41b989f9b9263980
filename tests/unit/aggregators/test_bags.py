import pytest
import torch

from wsi_ncmi.aggregators.bags import BagBatch


def test_bags_lie_one_after_the_other() -> None:
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    bags = BagBatch.of([first, second])
    assert bags.features.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert bags.offsets.tolist() == [0, 1, 3]
    assert len(bags) == 2
    assert bags.sizes == (1, 2)
    assert bags.counts.tolist() == [1.0, 2.0]
    assert bags.index.tolist() == [0, 1, 1]
    for found, bag in zip(bags.split(bags.features), (first, second), strict=True):
        assert torch.equal(found, bag)


def test_one_bag() -> None:
    bags = BagBatch.of([torch.zeros(4, 3)])
    assert (len(bags), bags.sizes, bags.index.tolist()) == (1, (4,), [0, 0, 0, 0])


def test_other_features_of_the_same_bags() -> None:
    bags = BagBatch.of([torch.zeros(1, 3), torch.zeros(2, 3)]).replace(torch.ones(3, 5))
    assert bags.features.shape == (3, 5)
    assert bags.sizes == (1, 2)


def test_other_features_have_as_many_rows() -> None:
    bags = BagBatch.of([torch.zeros(1, 3), torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="from 0 to the 4 instances, found 0 to 3"):
        bags.replace(torch.ones(4, 3))


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_an_empty_bag_is_refused_by_its_number(empty: int) -> None:
    bags = [torch.zeros(0 if number == empty else 2, 3) for number in range(3)]
    with pytest.raises(ValueError, match=f"bag {empty} of 3 has no instance: leave it out"):
        BagBatch.of(bags)


def test_features_and_offsets_have_their_shapes() -> None:
    with pytest.raises(ValueError, match=r"features must be \[T, D\], found \[3\]"):
        BagBatch(torch.zeros(3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"int64 \[B \+ 1\], found torch.int32 \[2\]"):
        BagBatch(torch.zeros(3, 1), torch.tensor([0, 3], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"int64 \[B \+ 1\], found torch.int64 \[1\]"):
        BagBatch(torch.zeros(3, 1), torch.tensor([0]))


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 4]])
def test_offsets_cover_all_instances(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets must run from 0 to the 3 instances"):
        BagBatch(torch.zeros(3, 1), torch.tensor(offsets))
