"""All runs of a study on one page, made from the study's files alone."""

from copdvae.report.page import report

__all__ = ["report"]
