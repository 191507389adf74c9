"""What things are called on the page, and what they mean to a reader who never saw an autoencoder."""

TARGETS = {"fev1_pp": "FEV1 % predicted", "emphysema_pct": "Emphysema %", "gas_trapping_pct": "Gas trapping %", "gold": "GOLD category"}
FIRST_METRIC = {"fev1_pp": "r2", "emphysema_pct": "r2", "gas_trapping_pct": "r2", "gold": "kappa"}
METRICS = {
    "r2": "R²",
    "kappa": "κ",
    "mae": "Mean absolute error",
    "quadratic_kappa": "Weighted κ, GOLD 0–4",
    "grouped_mig": "Information gap",
    "grouped_mig_adjusted": "Information gap, less chance",
    "grouped_mig_chen": "Information gap from posteriors",
    "grouped_mig_chen_adjusted": "Information gap from posteriors, less chance",
    "label_l2": "Distance of read labels",
    "accuracy": "Right classes",
}
LABEL_METRICS = {  # of methods that read the measures they were told from a CT themselves: title, and what it says
    "label_l2": (
        "Spirometry as the methods themselves read it from a CT",
        "Methods that were told the spirometry of some training subjects also make their own estimate of it for every CT. Shown is how far "
        "that lies from what was measured, on average over test subjects, {unit}: 0 is perfect, lower is better. The last line is what "
        "saying the training average of everyone reaches.",
    ),
    "accuracy": (
        "Stages as the methods themselves read them from a CT",
        "Methods that were told the class of some training subjects also sort every CT into one of these classes. Shown is the share of "
        "test subjects whose class is right ({unit}): higher is better. The last line is what naming the most frequent training class for "
        "everyone reaches.",
    ),
}
MEASURES = TARGETS | {
    "age": "Age, years",
    "sex": "Women",
    "height_cm": "Height, cm",
    "weight_kg": "Weight, kg",
    "pack_years": "Pack-years",
    "fvc_pp": "FVC % predicted",
    "fev1_fvc": "FEV1/FVC",
    "insp_lung_volume_l": "Lung volume in, l",
    "exp_over_insp_volume": "Lung volume out / in",
    "site": "Site",
    "scanner": "Scanner",
    "kernel": "Kernel",
    "split": "Split",
}
SPLITS = {"train": "Training", "validation": "Validation", "test": "Test"}
GOLD = {-2: "Never smoked", -1: "PRISm", 0: "GOLD 0", 1: "GOLD 1", 2: "GOLD 2", 3: "GOLD 3", 4: "GOLD 4"}
GOLD_COLOURS = {-2: "#b9c3cf", -1: "#8a8f98", 0: "#7ab8c9", 1: "#f2c14e", 2: "#f08a4b", 3: "#d1495b", 4: "#6a1b4d"}

TERMS = {
    "loss": "total (loss)",
    "rec": "error of redrawing (rec)",
    "rec_lung": "the same, lungs only (rec_lung)",
    "kl": "information held (kl)",
    "kl_u": "information in u (kl_u)",
    "kl_v": "information in v (kl_v)",
    "selection": "what weights are picked by (selection)",
    "pair_loss": "misfit to told pairs (pair_loss)",
}

BASELINES = ("mean", "age_sex_height", "density_probe", "densitometry")
KINDS = {
    "u": "Learnt with weak knowledge of lung function",
    "ranked": "Learnt from images alone",
    "direct": "Trained to predict the measures themselves",
    "leaks": "Shown the measures of the scored subjects: no fair comparison",
    "baseline": "Baselines without a learnt representation",
}
KIND_COLOURS = {"u": "#0b6e8a", "ranked": "#7c6a9c", "direct": "#c26a1b", "leaks": "#b23a48", "baseline": "#8b95a1"}

METHODS = {
    "vae": ("VAE", "Learns to compress each CT into a few numbers from which it can be redrawn. It is told nothing about the patient."),
    "beta_vae": ("β-VAE", "A VAE that is pressed harder to keep its numbers few and independent. It is told nothing about the patient."),
    "factor_vae": (
        "FactorVAE",
        "A VAE whose numbers are pressed to be independent of each other, judged by a second network. It is told nothing of the patient.",
    ),
    "beta_tcvae": (
        "β-TCVAE",
        "A VAE whose numbers are pressed to be independent of each other, judged within each batch. It is told nothing of the patient.",
    ),
    "pairwise": (
        "Pairwise similarities",
        "A VAE that is also told, for some pairs of training subjects, how alike their spirometry is. One set of its numbers (u) "
        "has to place alike subjects close together; the rest (v) holds everything else that a CT shows.",
    ),
    "dsd": (
        "Dual swap",
        "Told which pairs of training subjects have the same GOLD stage: swapping u within such a pair must not change what is redrawn.",
    ),
    "wela_vae": (
        "WeLa-VAE",
        "A VAE that must also tell, from its numbers, in which band of FEV1 and of FEV1/FVC a training subject lies.",
    ),
    "parted_vae": (
        "PartedVAE",
        "A VAE that sorts subjects into stages, learnt from those of some training subjects, and gives each stage its own range of u.",
    ),
    "ss_beta_vae": ("SS-β-VAE", "A β-VAE whose u must be the spirometry of those training subjects for whom it is told."),
    "ss_factor_vae": ("SS-FactorVAE", "A FactorVAE whose u must be the spirometry of those training subjects for whom it is told."),
    "ss_beta_tcvae": ("SS-β-TCVAE", "A β-TCVAE whose u must be the spirometry of those training subjects for whom it is told."),
    "larvae": (
        "LaRVAE",
        "As the SS methods; besides, a CT must be redrawn when the true spirometry takes the place of u.",
    ),
    "ml_vae": (
        "ML-VAE",
        "Told which training subjects have the same GOLD stage: they share one u, the product of what their CTs say.",
    ),
    "gvae": (
        "GVAE",
        "Told which training subjects have the same GOLD stage: they share one u, the average of what their CTs say.",
    ),
    "group_tcvae": (
        "group-tcVAE",
        "Told which training subjects have the same GOLD stage: their u must agree, and u and v must be independent as groups.",
    ),
    "ada_gvae": (
        "Ada-GVAE",
        "Told which training subjects have the same GOLD stage; it finds by itself which of its numbers they share, and averages those.",
    ),
    "ada_ml_vae": (
        "Ada-ML-VAE",
        "Told which training subjects have the same GOLD stage; it finds by itself which of its numbers they share, and multiplies those.",
    ),
    "supervised": (
        "Supervised network",
        "The same network trained directly on the measures below. It shows what the images allow when severity is told outright.",
    ),
    "mean": ("Guess the average", "Predicts the training average, or the most frequent category, for everyone. Its R² and κ are about 0."),
    "densitometry": (
        "CT densitometry",
        "The usual CT measures (low-attenuation areas, percentiles, volumes): the five most similar training subjects are averaged.",
    ),
    "age_sex_height": ("Age, sex, height", "The five training subjects most similar in age, sex and height are averaged. No CT is used."),
    "density_probe": ("Mean lung densities", "A straight-line fit to the mean lung density of the scans."),
}

GLOSSARY = {
    "Representation, u and v": "The few numbers into which a method compresses a CT. u is meant to say how ill the lungs are; v holds the "
    "rest: body size, position, depth of the breath.",
    "R²": "The share of the differences between subjects that a prediction explains: 1 is perfect, 0 is no better than the average of "
    "the scored subjects, below 0 is worse than that.",
    "κ (Cohen's kappa)": "Agreement on categories beyond what chance would give: 1 is perfect, 0 is chance. The six categories are "
    "PRISm and GOLD 0 to 4; never-smokers are left out. The weighted κ forgives near misses and needs an order, so it leaves PRISm "
    "out too.",
    "Ceiling": "On a synthetic study the true disease of every subject is known. The ceiling is what predictions from that truth itself "
    "reach: noise in spirometry, and disease that no CT shows, keep it below 1.",
    "95 % interval": "Where the score would fall if other subjects of the same kind had been scored: 2,000 resamples of the subjects, or "
    "for information gaps leaving out a twentieth of them at a time.",
    "Seed": "Training starts from random numbers. Each seed is a complete repetition; how far seeds differ shows how reproducible a "
    "method is.",
    "5 nearest neighbours": "A subject's prediction is the average (or the most frequent category) of the five training subjects with the "
    "most similar u.",
    "Information gap (MIG)": "How much more u tells about a measure than any single number of v does: 1 means that u alone holds "
    "it, 0 that v knows as much.",
    "PRISm": "Preserved ratio, impaired spirometry: FEV1/FVC is at least 0.70 but FEV1 is below 80 % of predicted.",
}
