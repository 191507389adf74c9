"""copdvae: what a chest CT says about how ill the lungs are. Research use only."""

__version__ = "0.2.0"
