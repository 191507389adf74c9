"""Spirometry: reference equations, % predicted, z-scores, lower limits of normal, GOLD; the units and codes of tables.

Volumes are litres, height cm, age years, FEV1/FVC a ratio from 0 to 1, % predicted a percent (80 is 80 %).
"""

from copdvae.spirometry.equations import REFERENCES, predict
from copdvae.spirometry.gold import gold_reason, gold_stage

__all__ = ["REFERENCES", "gold_reason", "gold_stage", "predict"]
