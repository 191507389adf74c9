"""What `pairwise` has of paper A and its authors' code where `variant: strict`: defaults, and what else is done differently.

w and beta are set against a summed squared error, so the reconstruction does not depend on the study's `network.likelihood`.
"""

DEFAULTS = {"eta1": 1000.0, "weight": 1.0, "beta": 10.0, "warm_up": 0, "onset": 5000}  # settings that are given win

QUIRKS = {
    "steep": "eta1 is 1000, weight 1 and beta 10, unless they are given",
    "own_batch": "pairs are drawn with replacement, as many as images, and their members are neither reconstructed nor in the KL",
    "squared_error": "the reconstruction is the summed squared error, whatever network.likelihood says",
    "late": "in training, its weight is 0 for 2,500 steps, then rises to 1 at step 5,000 (onset)",
    "cold": "no warm-up draws u to where the pairs alone put each subject",
}
