"""A small storm. The large one is a script: `python -m tests.crashes.storm`."""

from tests.crashes.scene import Scene
from tests.crashes.weather import Storm


def test_a_hundred_edits_and_eight_kills_lose_nothing(scene: Scene) -> None:
    report = Storm(scene, edits=100, kills=8).blow()
    assert report.is_clean, f"\n{report}"
    assert report.edits_recorded >= 100
    assert report.kills_while_sending >= 4, f"\n{report}"
