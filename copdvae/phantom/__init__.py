"""A licence-free synthetic study with known truth: CTs at full inspiration and expiration, spirometry, and every factor behind them."""

from copdvae.phantom.study import phantom

__all__ = ["phantom"]
