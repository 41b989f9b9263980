"""Bytes that are kept: no more than allowed, the oldest go first."""

from wsi_ncmi.tools.view.cache import ByteCache


def test_it_never_holds_more_than_allowed() -> None:
    kept = ByteCache(100)
    for number in range(50):
        kept.put(number, bytes(10 + number % 7))
        assert kept.held <= 100
    assert kept.get(49) == bytes(10)
    assert kept.get(0) is None


def test_what_was_asked_for_stays() -> None:
    kept = ByteCache(30)
    for key in "abc":
        kept.put(key, bytes(10))
    assert kept.get("a") is not None
    kept.put("d", bytes(10))
    assert kept.get("b") is None
    assert kept.get("a") is not None


def test_a_value_replaces_another_and_a_huge_one_is_not_kept() -> None:
    kept = ByteCache(30)
    kept.put("a", bytes(20))
    kept.put("a", bytes(25))
    assert kept.held == 25
    kept.put("b", bytes(31))
    assert kept.get("b") is None
    assert kept.get("a") == bytes(25)
