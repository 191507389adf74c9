"""What some methods are exempt from, and why. Names of players and logs, by method."""

# Loss parts that depend on the order of the batch by design (a permutation or a draw that belongs to a place, not to an image).
UNORDERED: dict[str, set[str]] = {
    "dsd": {"model", "reconstruction", "rebuilt"},  # unlabelled images swap with the one half a batch on: see test_dsd.py
    "group_tcvae": {"critic"},  # its permuted samples
    "factor_vae": {"critic"},  # likewise
    "ss_factor_vae": {"critic"},
}

# Methods that estimate a density from the batch, or average over it inside a norm: a batch with every image twice is another sample.
COUNTS_BATCH: dict[str, str] = {
    "dsd": "an unlabelled image swaps with the one half a batch on, which would be its own copy",
    "wela_vae": "its total correlation is that of the batch",
}

# Weights that a method leaves alone in the first half of a setting's steps: how their names start, and the setting.
ASLEEP: dict[str, dict[str, str]] = {"pairwise": {"decoder.": "onset"}}  # no reconstruction at first in `strict`
