"""What the generated sets share: the full grid, in order, and any rows of it without the others."""

import numpy as np
import pytest

from copdvae.errors import ConfigError
from copdvae.generated.blobs import blobs
from copdvae.generated.scenes import scenes
from copdvae.generated.sprites import sprites

SETS = {blobs: (102_400, 1), sprites: (737_280, 1), scenes: (480_000, 3)}
EVERY_SET = pytest.mark.parametrize("draw", SETS, ids=lambda draw: draw.__name__)


@EVERY_SET
def test_rows_run_through_every_combination_once_the_last_factor_fastest(draw):
    count, channels = SETS[draw]
    found = draw(np.array([0, 1, count - 1]))
    assert np.prod(found.sizes) == count
    assert found.image.shape == (3, channels, 64, 64)
    assert found.image.dtype == np.uint8
    assert found.factors.shape == (3, len(found.names))
    low, high = found.factors[0], found.factors[2]
    assert (low < high).all()
    assert (found.factors[1, :-1] == low[:-1]).all()
    assert found.factors[1, -1] > low[-1]
    places = np.random.default_rng(0).integers(0, count, 500)
    factors = draw(places).factors
    np.testing.assert_allclose(factors, naive_factors(draw(np.array([0, count - 1])), places), atol=1e-12)


def naive_factors(ends, rows):
    """Evenly spaced values between the ends, by repeated division."""
    out = []
    for row in rows:
        values, rest = [], int(row)
        for low, high, size in zip(*ends.factors[:, ::-1], ends.sizes[::-1], strict=True):
            values.append(low + (high - low) * (rest % size) / (size - 1))
            rest //= size
        out.append(values[::-1])
    return np.array(out)


@EVERY_SET
def test_an_image_is_a_function_of_its_row_whatever_is_drawn_with_it(draw):
    count = SETS[draw][0]
    rows = np.random.default_rng(1).integers(0, count, 600)  # more than one block
    rows[300] = rows[2]
    together = draw(rows).image
    for place in (0, 2, 255, 256, 300, 599):
        np.testing.assert_array_equal(draw(rows[[place]]).image[0], together[place])
    assert draw(np.zeros(0, int)).image.shape[0] == 0


@EVERY_SET
def test_the_name_says_that_it_is_not_the_official_set(draw):
    assert draw(np.array([0])).name == f"generated_{draw.__name__}"
    assert draw(np.array([0])).held_out is None


@EVERY_SET
@pytest.mark.parametrize("rows", [[-1], [10**6], [0.5], [[0]]])
def test_rows_that_are_not_there_are_refused(draw, rows):
    with pytest.raises(ConfigError, match=f"generated_{draw.__name__}: rows must be"):
        draw(np.array(rows))
