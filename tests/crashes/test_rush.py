"""Whether the measure of a rush measures. (The rushes themselves need PostgreSQL: test_postgres.py, `pace`.)"""

from tests.crashes.rush import MINUTE, Traffic


def in_pairs(per_minute: float) -> Traffic:
    """Two minutes of a perfect limiter that was told another limit than 1,200."""
    pairs = range(int(per_minute))
    return Traffic([at for pair in pairs for at in (pair * 120 / per_minute,) * 2], until=120, per_minute=1200)


def test_a_rate_that_is_three_percent_too_high_is_noticed() -> None:
    busiest = in_pairs(1236).busiest(MINUTE)
    assert busiest is not None
    assert busiest.too_many > 0


def test_pairs_at_the_very_rate_are_not_too_many() -> None:
    for seconds in (1, 10, MINUTE):
        busiest = in_pairs(1200).busiest(seconds)
        assert busiest is not None
        assert busiest.too_many == 0
