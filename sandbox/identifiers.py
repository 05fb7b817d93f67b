"""Ids in the upstream's format: a prefix and 24 letters or digits."""

import string
from random import Random, SystemRandom

ALPHABET = string.ascii_letters + string.digits
SYSTEM = SystemRandom()


def new_id(prefix: str) -> str:
    return seeded_id(SYSTEM, prefix)


def seeded_id(random: Random, prefix: str) -> str:
    """An id that depends only on the state of the random generator."""
    return prefix + "_" + "".join(random.choices(ALPHABET, k=24))
