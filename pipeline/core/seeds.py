"""Random numbers that depend on nothing but the seed and what they are for."""

import hashlib

import numpy as np


def generator_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """A random generator that is a pure function of the seed and its purpose.

    Two calls with the same arguments give the same numbers in any process, in any order, after any
    interruption. This is what makes resuming exact: the batch of step 417 needs no stored state.

    Args:
        seed: The user's seed.
        purpose: Names and counters, such as ("batch", 417).

    Returns:
        A fresh generator.
    """
    key = "/".join(str(part) for part in (seed, *purpose))
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
