"""Readers of image sets, one file a set; each returns an `ImageSet`. docs/IMAGES.md lists layouts, factors, splits and sources.

No reader runs what a file contains: no pickle is ever opened, decoders are named, and sizes are checked before memory is taken.
"""

from copdvae.read.images.image_set import ImageSet, cyclic_difference, factor_classes

__all__ = ["ImageSet", "cyclic_difference", "factor_classes"]
