"""All runs of a study on one page, and all its subjects on another, made from the study's files alone."""

from copdvae.report.page import report
from copdvae.report.quality import qc

__all__ = ["qc", "report"]
