"""Made-up labels and codes whose information is known."""

import numpy as np


def labelled(rng: np.random.Generator, n: int = 540, classes: int = 6, nuisance: int = 8):
    """Labels, a perfect code of them, and `nuisance` codes that know nothing."""
    target = rng.integers(0, classes, n)
    return target, target[:, None].astype(float), rng.normal(size=(n, nuisance))
