"""What makes chests hard: drawn on a `Scene` of `chest`.  In mm, LPS, as there.

The body is an ellipse of 170 x 115, the lungs lie at x = -72 and 72, from z = -110 to 110.
"""

from collections.abc import Callable

import numpy as np
from chest import AIR, TISSUE, Scene

Draw = Callable[[Scene], None]
CLOTH, MUSCLE, BONE = -120.0, 50.0, 400.0


def ball(s: Scene, centre: tuple[float, float, float], radius: float, squash: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """An ellipsoid: `centre` and `squash` are (z, y, x)."""
    parts = [((axis - place) / (radius * side)) ** 2 for axis, place, side in zip((s.z, s.y, s.x), centre, squash, strict=True)]
    return sum(parts) < 1


def put_gas(s: Scene, where: np.ndarray, hu: float = AIR) -> None:
    """Gas in the belly: where there is tissue."""
    where = where & (s.truth == 0) & (s.hu > -300)
    s.hu[where] = hu
    s.gas |= where


def domes(s: Scene) -> None:
    """The diaphragm bulges up into both lungs."""
    for side in (-1, 1):
        dome = ball(s, (-125, 0, 72 * side), 70) & (s.truth > 0)
        s.truth[dome], s.hu[dome] = 0, TISSUE


def stomach_in_the_dome(radius: float, wall: float) -> Draw:
    """A gas bubble right under the left dome, `wall` mm of stomach and diaphragm above it."""

    def draw(s: Scene) -> None:
        put_gas(s, ball(s, (-125 + 70 - wall - radius, 0, 72), radius))

    return draw


def bowel(radius: float, wall: float) -> Draw:
    """Colon with gas: a tube from right to left under both domes, in bends and in haustra."""

    def draw(s: Scene) -> None:
        dome = -125 + np.sqrt(70**2 - 20**2 - np.minimum(np.abs(np.abs(s.x) - 72), 60) ** 2)
        bumps = 1 - 0.12 * (1 + np.sin(2 * np.pi * s.x / 30))
        put_gas(s, ((s.z - dome + wall + radius) ** 2 + (s.y + 20) ** 2 < (radius * bumps) ** 2) & (np.abs(s.x) < 95))

    return draw


def loops(radius: float) -> Draw:
    """Small bubbles of gas low in the belly, on both sides."""

    def draw(s: Scene) -> None:
        for x in range(-90, 91, 30):
            for y in (-40, 0, 40):
                put_gas(s, ball(s, (-165, y, x), radius))

    return draw


def cloth(gap: float, thick: float, half: bool = False) -> Draw:
    """A blanket around the body (`half`: only over its front), `gap` mm of air under it, that leaves the scan at head and feet."""

    def draw(s: Scene) -> None:
        far = np.sqrt((s.x / 170) ** 2 + (s.y / 115) ** 2) - 1
        layer = (far * 115 > gap) & (far * 115 < gap + thick) & (s.y < (0 if half else 117))
        s.hu[np.broadcast_to(layer, s.hu.shape) & (s.hu < -900)] = CLOTH

    return draw


def folds(s: Scene) -> None:
    """Clothes in folds between back and table, air shut in."""
    fold = np.broadcast_to((np.abs(s.x) < 150) & (s.y > 60) & (s.y < 117), s.hu.shape) & (s.hu < -900)
    pleats = np.broadcast_to((np.sin(s.x / 8) > 0.3) | (s.y > 113), s.hu.shape)
    s.hu[fold & pleats] = CLOTH


def arms(s: Scene) -> None:
    """Arms down, against the body's sides: air between arm, trunk and table is nearly shut in."""
    for side in (-1, 1):
        arm = np.broadcast_to(((s.x - side * 208) / 42) ** 2 + ((s.y - 30) / 40) ** 2 < 1, s.hu.shape)
        bone = np.broadcast_to((s.x - side * 208) ** 2 + (s.y - 30) ** 2 < 10**2, s.hu.shape)
        s.hu[arm & (s.hu < -300)] = MUSCLE
        s.hu[bone] = BONE


def hands_on_the_belly(s: Scene) -> None:
    """Forearms that close a ring with the trunk in front: air in between is in no room of its own."""
    ring = np.sqrt((s.x / 205) ** 2 + ((s.y + 10) / 170) ** 2)
    arm = np.broadcast_to((ring > 0.85) & (ring < 1) & (s.y < 20), s.hu.shape) & (s.hu < -900)
    s.hu[arm] = MUSCLE


def bullae(radius: float, wall: float = 0.0, hu: float = -1000.0, place: float | None = None) -> Draw:
    """A bulla at each apex, or with its middle `place` mm up, shut off by a wall where that is not 0."""

    def draw(s: Scene) -> None:
        for label, side in ((1, -1), (2, 1)):
            centre = (105 - radius if place is None else place, 0, side * 72)
            around = ball(s, centre, radius + wall) & (s.truth == label)
            s.hu[around] = -200
            s.hu[around & ball(s, centre, radius)] = hu

    return draw


def bases(hu: float, septum: float) -> Draw:
    """Both lungs' lower parts are `hu`, under a septum where that is not 0 mm thick."""

    def draw(s: Scene) -> None:
        lung = (s.truth == 1) | (s.truth == 2)
        height = np.broadcast_to(s.z, s.hu.shape)
        s.hu[lung & (height < -30) & (s.hu < -700)] = hu
        s.hu[lung & (height >= -30) & (height < -30 + septum)] = 0

    return draw


def emphysema(share: float) -> Draw:
    """Holes of air all over the lungs: `share` of it, in clusters of 8 mm."""

    def draw(s: Scene) -> None:
        wave = np.sin(s.x / 5) * np.sin(s.y / 5 + 1) * np.sin(s.z / 5 + 2)
        lung = ((s.truth == 1) | (s.truth == 2)) & (s.hu < -700)
        s.hu[lung & (wave > np.quantile(wave[lung], 1 - share))] = -1000

    return draw


def pneumonectomy(over: float) -> Draw:
    """The left lung is gone, fluid fills its place; the right one is larger and comes `over` mm across the middle in front."""

    def draw(s: Scene) -> None:
        gone = s.truth == 2
        s.truth[gone], s.hu[gone] = 0, 15
        larger = ball(s, (0, -5, -70), 85, (1.35, 1, 0.68)) | (ball(s, (15, -45, over - 60), 60, (1.2, 0.6, 1)) & (s.x < over))
        larger &= s.hu > -300
        s.truth[larger], s.hu[larger] = 1, -850

    return draw


def contrast(hu: float) -> Draw:
    """Heart and vessels bright."""

    def draw(s: Scene) -> None:
        inside = (s.truth == 1) | (s.truth == 2)
        s.hu[inside & (s.hu > -300)] = hu
        heart = ball(s, (-50, -20, 15), 50, (1, 1, 0.7)) & (s.truth == 0) & (s.hu > -300)
        s.hu[heart] = hu
        aorta = np.broadcast_to((s.x - 12) ** 2 + (s.y - 55) ** 2 < 13**2, s.hu.shape) & (s.truth == 0) & (s.hu > -300)
        s.hu[aorta] = hu

    return draw
