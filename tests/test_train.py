import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.stats import spearmanr
from tiny import CONFIGS, METHODS, NAMES, NETWORK, made_cohort, run_config

from copdvae.batches import AugmentConfig
from copdvae.checkpoint import load_checkpoint
from copdvae.collapse import constant_likelihood, spearman
from copdvae.encode import encode
from copdvae.errors import ConfigError, Stopped
from copdvae.files import HOST
from copdvae.metrics.neighbours import knn_regression, r2
from copdvae.networks import NetworkConfig
from copdvae.objectives import embedding
from copdvae.run import stopping
from copdvae.supervision.labels import fit_labels, labels_from
from copdvae.supervision.similarity import SimilarityConfig
from copdvae.train import Log, Run, RunConfig, load_run, target_labels, train_run

every_method = pytest.mark.parametrize("method", NAMES)
every_variant = pytest.mark.parametrize("method", CONFIGS.values(), ids=CONFIGS)
ARTEFACTS = ("weights.safetensors", "checkpoint.safetensors", "log.csv")


@pytest.fixture(autouse=True)
def hasty_embedding(monkeypatch, request):
    """Where nothing must be learned, the pairs' own embedding need not be good."""
    if "learns" not in request.node.name:
        monkeypatch.setattr(embedding, "STEPS", 10)


def silent(line):
    pass


def stopping_after(steps):
    """A wish to stop that comes with the `steps`-th question."""
    asked = iter([False] * (steps - 1) + [True] * 1000)
    return lambda: next(asked)


def files(folder):
    return {name: (folder / name).read_bytes() for name in ARTEFACTS}


@every_variant
@pytest.mark.parametrize("at", [2, 3])
def test_stopping_and_resuming_gives_the_same_bytes(tmp_path, method, at):
    """At a step where a checkpoint was due (2), and between two of them (3): weights, optimizer states and log."""
    cohort, config = made_cohort(), run_config(method, steps=6)
    whole = train_run(cohort, config, tmp_path / "whole", silent)
    with pytest.raises(Stopped):
        train_run(cohort, config, tmp_path / "parts", silent, stopping_after(at))
    assert not (tmp_path / "parts" / config.id / "run.json").exists()
    parts = train_run(cohort, config, tmp_path / "parts", silent)
    assert files(parts) == files(whole)
    facts = [json.loads((folder / "run.json").read_text()) for folder in (whole, parts)]
    for timed in facts:
        for name in ("seconds", "seconds_a_step", "data_share"):
            timed.pop(name)
    assert facts[0] == facts[1]


@pytest.mark.parametrize("wish", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_s_signal_ends_in_a_checkpoint_and_the_run_goes_on_from_there(tmp_path, wish):
    cohort, config = made_cohort(), run_config("vae", steps=6)

    def show(line):
        if "step 1/" in line:
            os.kill(os.getpid(), wish)

    before = signal.getsignal(wish)
    with stopping() as stop, pytest.raises(Stopped, match="stopped at step 3 of 6"):
        train_run(cohort, config, tmp_path / "parts", show, stop)
    assert signal.getsignal(wish) is before
    assert load_checkpoint(tmp_path / "parts" / config.id / "checkpoint.safetensors", {})["step"] == 3
    whole = train_run(cohort, config, tmp_path / "whole", silent)
    assert files(train_run(cohort, config, tmp_path / "parts", silent)) == files(whole)


def test_a_run_killed_while_it_wrote_goes_on_to_the_same_bytes(tmp_path):
    """Killed after the kept weights and the log were written, before the checkpoint was: it repeats the steps in between."""
    cohort, config = made_cohort(), run_config("pairwise", steps=6)
    whole = train_run(cohort, config, tmp_path / "whole", silent)
    with pytest.raises(Stopped):
        train_run(cohort, config, tmp_path / "killed", silent, stopping_after(2))
    killed = tmp_path / "killed" / config.id
    older = (killed / "checkpoint.safetensors").read_bytes()
    with pytest.raises(Stopped):
        train_run(cohort, config, tmp_path / "killed", silent, stopping_after(2))
    (killed / "checkpoint.safetensors").write_bytes(older)
    assert files(train_run(cohort, config, tmp_path / "killed", silent)) == files(whole)


def test_what_a_killed_run_left_half_written_is_gone_after_the_next_one(tmp_path):
    """Also where the run was complete: its pictures, or its latents, were not."""
    cohort, config = made_cohort(), run_config("vae")
    for name in ("checkpoint.safetensors", "pictures.safetensors"):
        left = tmp_path / config.id / f".{name}.{HOST}.{2**22 + 1}.tmp"  # more than any process has
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"half of it")
        train_run(cohort, config, tmp_path, silent)
        assert not left.exists()


def test_a_finished_run_is_not_touched_again(tmp_path):
    cohort, config = made_cohort(), run_config("vae")
    folder = train_run(cohort, config, tmp_path, silent)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}
    train_run(cohort, config, tmp_path, silent)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"} == before


@every_variant
def test_nothing_of_a_test_subject_reaches_training(tmp_path, method):
    """Other images and labels of test subjects, or none: the same weights and the same log."""
    cohort, config = made_cohort(), run_config(method)
    whole = train_run(cohort, config, tmp_path / "a", silent)
    test = cohort.rows("test")
    assert len(test) == 8
    image, labels = cohort.subjects.image.copy(), cohort.labels.copy()
    image[test] = 1000
    labels.iloc[test] = 1e6
    other = replace(cohort, subjects=replace(cohort.subjects, image=image), labels=labels)
    absent = replace(cohort, labels=cohort.labels.drop(cohort.subjects.ids[test]))
    for name, poisoned in (("b", other), ("c", absent)):
        assert files(train_run(poisoned, config, tmp_path / name, silent)) == files(whole)


SEEN_IN = {  # a logged value of each that labels have a part in
    "pairwise": "pair_loss", "larvae": "label_loss", "ss_factor_vae": "label_loss", "wela_vae": "label_loss", "gvae": "rec",
    "group_tcvae": "apart", "dsd": "swapped", "parted_vae": "class_loss",
}  # fmt: skip


@pytest.mark.parametrize(("method", "seen_in"), SEEN_IN.items())
def test_validation_labels_choose_weights_but_move_none(tmp_path, method, seen_in):
    cohort, config = made_cohort(), run_config(method, keep="last")
    labels = cohort.labels.copy()
    rows = cohort.rows("validation")
    labels.iloc[rows] = labels.iloc[rows[::-1]].to_numpy()
    runs = [train_run(c, config, tmp_path / n, silent) for n, c in (("a", cohort), ("b", replace(cohort, labels=labels)))]
    states = []
    for folder in runs:
        _, net, _ = load_run(folder, cohort.subjects.image.shape[1:])
        states.append(net.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    logs = [pd.read_csv(folder / "log.csv") for folder in runs]
    pd.testing.assert_series_equal(logs[0][seen_in], logs[1][seen_in])
    assert not np.allclose(logs[0][f"validation_{seen_in}"].dropna(), logs[1][f"validation_{seen_in}"].dropna())


def made_run(method="pairwise", cohort=None, folder=Path("/nowhere"), **settings):
    config = run_config(method).model_copy(update=settings)
    return Run(cohort or made_cohort(), config, folder, silent)


def test_sigma_and_z_scores_come_from_training_subjects_also_for_validation_pairs():
    cohort = made_cohort()
    config = SimilarityConfig()
    train = cohort.table(cohort.rows("train"))[list(config.measures)].to_numpy()
    z = (train - train.mean(axis=0)) / train.std(axis=0)
    squared = [((z[i] - z[j]) ** 2).sum() for j in range(len(z)) for i in range(j)]
    sigma2 = np.median(squared)
    told = cohort.table(cohort.rows("validation"))[list(config.measures)].to_numpy()
    told = (told - train.mean(axis=0)) / train.std(axis=0)
    (batch,) = made_run(cohort=cohort).validation
    assert len(batch.pairs.first) == 8 * 7 / 2  # all of them
    for i, j, y in zip(batch.pairs.first, batch.pairs.second, batch.pairs.similarity, strict=True):
        assert float(y) == pytest.approx(np.exp(-((told[i] - told[j]) ** 2).sum() / sigma2), abs=1e-5)


def test_noise_is_added_to_training_pairs_and_not_to_validation_pairs():
    clean, noisy = (made_run(similarity=SimilarityConfig(noise=noise)) for noise in (0.0, 0.3))
    assert not np.allclose(clean.batches.pairs.similarity, noisy.batches.pairs.similarity)
    assert torch.equal(clean.validation[0].pairs.similarity, noisy.validation[0].pairs.similarity)


def test_pairs_and_first_weights_are_a_function_of_the_seed():
    one, same, other = (made_run(seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.batches.pairs.first, same.batches.pairs.first)
    assert not np.array_equal(one.batches.pairs.first, other.batches.pairs.first)
    first = [next(run.net.parameters()).detach() for run in (one, same, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_batches_hold_training_subjects_alone():
    cohort = made_cohort()
    for method in CONFIGS.values():
        run = made_run(method, cohort)
        assert set(run.batches.rows) == set(cohort.rows("train"))
        looked_at = len(cohort.rows("validation"))
        if run.batches.groups is not None:  # those that fill a pair of equal class
            counts = cohort.table(cohort.rows("validation"))["gold"].value_counts()
            looked_at = (counts // 2 * 2).sum()
        assert sum(len(batch.image) for batch in run.validation) == looked_at
        if run.batches.pairs is not None:
            assert max(run.batches.pairs.second) < len(cohort.rows("train"))


def test_labels_are_z_scores_by_training_subjects_and_class_numbers():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0, np.nan], "gold": [-1.0, 4.0, np.nan, -2.0]})
    training = pd.DataFrame({"a": [0.0, 4.0, np.nan], "gold": [0, 0, 0]})
    found = target_labels(table, training, ("a", "gold"))
    np.testing.assert_array_equal(found[:, 0], [-0.5, 0, 0.5, np.nan])
    np.testing.assert_array_equal(found[:, 1], [0, 5, np.nan, np.nan])  # a never-smoker has no class


def test_the_weights_that_are_kept_are_the_best_on_validation_subjects(tmp_path):
    hurried = {"method": {"method": "pairwise", "weight": 1e3, "warm_up": 0}, "steps": 15, "save_every": 3, "lr": 0.05}
    config = run_config(**hurried)
    folder = train_run(made_cohort(), config, tmp_path, silent)
    log = pd.read_csv(folder / "log.csv").dropna(subset=["validation_pair_loss"])
    best = log.loc[log["validation_pair_loss"].idxmin()]
    facts = json.loads((folder / "run.json").read_text())
    assert facts["best"] == {"step": int(best["step"]) + 1, "score": best["validation_pair_loss"]}
    assert facts["best"]["step"] < 15, "otherwise this test shows nothing"
    assert load_checkpoint(folder / "weights.safetensors", {}) == facts["best"]
    last = train_run(made_cohort(), run_config(**hurried, keep="last"), tmp_path, silent)
    assert json.loads((last / "run.json").read_text())["best"]["step"] == 15


@every_method
def test_a_finished_run_says_what_it_is(tmp_path, method):
    config = run_config(method)
    folder = train_run(made_cohort(), config, tmp_path, silent)
    assert folder == tmp_path / config.id
    facts = json.loads((folder / "run.json").read_text())
    assert facts["method"] == method
    assert facts["subjects"] == {"train": 24, "validation": 8, "test": 8}
    assert (facts["pairs"] is None) == (config.method.needs != "pair")
    assert 0 <= facts["data_share"] <= 1
    assert facts["version"]
    assert facts["seed"] == 0
    assert RunConfig.parse(yaml.safe_load((folder / "config.yaml").read_text())) == config
    assert "S000" not in "".join(path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".csv", ".yaml"))
    logged = pd.read_csv(folder / "log.csv")
    assert logged["step"].tolist() == [0, 1, 2, 3]
    assert any(column.startswith("grad_") for column in logged), "which term rules is logged"


@pytest.mark.parametrize(
    ("method", "inferred"),
    [
        ("ss_beta_vae", "u"), ({"method": "larvae", "label_loss": "cross_entropy", "labels": {"kind": "unit"}}, "logit"),
        ("parted_vae", "classes"), ("wela_vae", None),
    ],
    ids=str,
)  # fmt: skip
def test_a_run_that_is_told_labels_says_how_to_read_them_from_training_subjects_alone(method, inferred):
    cohort = made_cohort()
    spoilt = cohort.labels.copy()
    spoilt.iloc[cohort.rows("test")] = 2
    spoilt.iloc[cohort.rows("validation")] = 3
    told = made_run(method, replace(cohort, labels=spoilt)).facts()["labels"]
    assert told["inferred"] == inferred
    settings = run_config(method).method.labels
    again = labels_from(json.loads(json.dumps(told)))
    assert again.config == settings
    expected = fit_labels(cohort.table(cohort.rows("train")), settings).of(cohort.labels)
    np.testing.assert_array_equal(again.of(cohort.labels), expected)


@pytest.mark.parametrize(
    "method", ["vae", "pairwise", "dsd", "supervised", {"method": "parted_vae", "labels": None, "values": [3]}], ids=str
)
def test_a_run_that_is_told_no_labels_has_none_to_read(method):
    assert made_run(method).facts()["labels"] is None


def test_a_run_s_name_depends_on_every_setting_but_not_on_the_machine():
    config = run_config("vae")
    machine = config.train.model_copy(update={"threads": 3, "device": "cuda:1", "bf16": "on"})
    assert config.model_copy(update={"train": machine}).id == config.id
    others = [
        config.model_copy(update={"seed": 1}), config.model_copy(update={"data": "1"}),
        config.model_copy(update={"network": NetworkConfig()}), config.model_copy(update={"augment": AugmentConfig(shift=0)}),
        config.model_copy(update={"train": config.train.model_copy(update={"lr": 0.1})}),
        config.model_copy(update={"similarity": SimilarityConfig(noise=0.1)}), run_config("pairwise"),
    ]  # fmt: skip
    assert len({config.id, *[other.id for other in others]}) == len(others) + 1


def test_a_method_that_needs_more_latents_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="supervised needs 9 latents, u \\+ v are 4"):
        RunConfig.parse(run_config("supervised").plain() | {"network": NETWORK.model_copy(update={"v": 3}).plain()})


@pytest.mark.parametrize("method", ["gvae", "dsd"])
def test_groups_of_one_age_are_refused_before_training(tmp_path, method):
    cohort = made_cohort(count=200)
    labels = cohort.labels.assign(age=np.random.default_rng(0).integers(50, 80, 200))
    with pytest.raises(ConfigError, match="age has 29 different values in 120 subjects; groups need classes"):
        Run(replace(cohort, labels=labels), run_config({"method": method, "groups": {"column": "age"}}), tmp_path, silent)


def test_a_step_of_strict_pairs_has_as_many_pairs_as_images_each_with_two_of_its_own():
    batch = made_run({"method": "pairwise", "variant": "strict"}).batches(0)
    assert (len(batch.also["image"].image), len(batch.pairs.first), len(batch.image)) == (8, 8, 16)
    assert batch.also["image"].pairs is None
    fixed = made_run("pairwise").batches(0)
    assert not fixed.also
    assert len(fixed.image) <= 8


HALF = {"columns": ["fev1_pp", "fev1_fvc"], "kind": "class", "bins": 5, "fraction": 0.5}


@pytest.mark.parametrize("method", ["ss_beta_vae", "larvae", {"method": "wela_vae", "labels": HALF}], ids=str)
def test_labels_that_no_training_subject_has_together_are_refused(tmp_path, method):
    """One measure is known of every other subject, the second one of the rest."""
    cohort = made_cohort()
    labels = cohort.labels.copy()
    labels.iloc[::2, labels.columns.get_loc("fev1_pp")] = np.nan
    labels.iloc[1::2, labels.columns.get_loc("fev1_fvc")] = np.nan
    with pytest.raises(ConfigError, match="no training subject has all of fev1_pp, fev1_fvc"):
        train_run(replace(cohort, labels=labels), run_config(method), tmp_path, silent)


@pytest.mark.parametrize(("method", "settings"), [("ss_beta_vae", {}), ("larvae", {}), ("parted_vae", HALF)], ids=str)
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_the_labelled_batch_has_subjects_with_all_labels_alone_so_that_a_weight_is_the_same_at_any_fraction(method, settings, fraction):
    """C's P_L and D's p_S: a mean over the batch is one over labelled subjects, in training and in validation."""
    cohort = made_cohort()
    labels = cohort.labels.copy()
    labels.iloc[::3, labels.columns.get_loc("fev1_pp")] = np.nan
    labels.iloc[1::5, labels.columns.get_loc("fev1_fvc")] = np.nan
    config = METHODS[NAMES.index(method)].parse({"labels": settings | {"fraction": fraction}})
    run = made_run(config, replace(cohort, labels=labels))
    known = {part: labels.iloc[cohort.rows(part)][["fev1_pp", "fev1_fvc"]].notna().all(axis=1).sum() for part in ("train", "validation")}
    told = run.batches.also["label"]
    assert len(told.rows) == round(fraction * known["train"]) < 24
    assert not np.isnan(told.labels).any()
    assert {len(batch.also["label"].label) for batch in run.validation} == {known["validation"]}
    assert all(batch.also["label"].label.isfinite().all() for batch in run.validation)


def test_a_subject_with_one_of_two_labels_keeps_it_where_all_are_told():
    """In `strict` it is also given to the encoder where subjects are scored: training must have seen the like."""
    cohort = made_cohort()
    labels = cohort.labels.copy()
    labels.iloc[::2, labels.columns.get_loc("fev1_pp")] = np.nan
    lacks = labels["fev1_pp"].isna().to_numpy()[cohort.rows("train")]
    for variant in ("fixed", "strict"):
        run = made_run({"method": "wela_vae", "variant": variant}, replace(cohort, labels=labels))
        np.testing.assert_array_equal(np.isnan(run.batches.labels), np.column_stack([lacks, np.zeros(len(lacks), bool)]))


def test_a_cohort_without_training_subjects_is_refused(tmp_path):
    cohort = made_cohort()
    with pytest.raises(ConfigError, match="0 training subjects"):
        train_run(replace(cohort, split=cohort.split.replace("train", "test")), run_config("vae"), tmp_path, silent)


def test_without_validation_subjects_the_last_weights_are_kept(tmp_path):
    cohort = made_cohort()
    folder = train_run(replace(cohort, split=cohort.split.replace("validation", "train")), run_config("pairwise"), tmp_path, silent)
    assert json.loads((folder / "run.json").read_text())["best"] == {"step": 4}


def test_a_log_is_read_back_to_the_last_digit(tmp_path):
    log = Log(tmp_path / "log.csv")
    rng = np.random.default_rng(0)
    for step in range(50):
        log.add(step, {"a": rng.normal() * 10.0 ** rng.integers(-9, 9), **({"b": rng.normal()} if step % 7 == 0 else {})})
    log.write()
    again = Log(tmp_path / "log.csv")
    again.cut(30)
    assert again.rows == {step: row for step, row in log.rows.items() if step < 30}


# What is wrong with a code, and what is not.


class Code(torch.nn.Module):
    """An encoder whose u is what a table says: it finds the subject by a voxel that is like no other."""

    def __init__(self, run, u, std):
        super().__init__()
        self.net, self.u, self.std = run.net, 1, std
        batches = run.validation
        self.known = {
            float(voxel): float(value) for batch in batches for voxel, value in zip(batch.image.sum((1, 2, 3, 4)), u, strict=True)
        }

    def encode(self, x, present=None, known=None):
        u = torch.tensor([[self.known[float(voxel)]] for voxel in x.sum((1, 2, 3, 4))])
        return torch.distributions.Normal(
            torch.cat([u, torch.zeros(len(x), 9)], 1), torch.cat([torch.full_like(u, self.std), torch.ones(len(x), 9)], 1)
        )


def alarm(u, std=0.1, method="pairwise", similarity=None):
    run = made_run(method, made_cohort(count=60), **({"similarity": similarity} if similarity else {}))
    severity = np.argsort(np.argsort(-run.cohort.table(run.cohort.rows("validation"))["fev1_pp"].to_numpy())) / 12
    run.net = Code(run, u(severity), std)
    return run.collapse()


def test_the_alarm_is_silent_for_a_code_that_follows_severity():
    assert alarm(lambda severity: 4 * severity) is None
    assert alarm(lambda severity: -1.5 * severity) is None


def test_the_alarm_tells_of_a_code_at_the_prior():
    assert "stays at the prior: its KL is 0.0" in alarm(lambda severity: 0.01 * severity, std=1.0)


def test_the_alarm_tells_of_a_pair_likelihood_at_chance_and_far_below_it():
    assert "below chance" in alarm(lambda severity: np.random.default_rng(0).permutation(4 * severity))
    assert "below chance" in alarm(lambda severity: 0 * severity + 3)  # all alike, far from the prior
    gentle = {"method": "pairwise", "eta1": 1e-3}  # whatever the code says, every similarity is nearly as likely
    assert "at chance" in alarm(lambda severity: np.random.default_rng(0).permutation(4 * severity), method=gentle)


def test_where_u_is_found_by_rank_the_alarm_is_about_all_latents_together():
    silent = alarm(lambda severity: 0 * severity, std=1.0, method="vae")
    assert silent.startswith("every latent stays at the prior: the largest KL is 0.000 nats")
    assert alarm(lambda severity: 4 * severity, method="vae") is None
    assert alarm(lambda severity: 4 * severity, method="wela_vae") is None
    assert alarm(lambda severity: 0 * severity, std=1.0, method="supervised") is None, "its outputs are predictions"


def constant_u(run, says):
    """The run's encoder with u at `says` for every image, whatever its variance."""
    out = run.net.encoder.out
    with torch.no_grad():
        out.weight[: run.net.u] = 0
        out.bias[: run.net.u] = says
    return run.collapse()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"method": "dsd", "variant": "strict"}, "u is the same for all subjects: its values spread by 0, those of v by"),
        ({"method": "dsd"}, "u is nearly the same for all subjects: its means spread by 0 "),
        ("parted_vae", "u is nearly the same for all subjects: its means spread by 0 "),
        ("larvae", "u is nearly the same for all subjects: its means spread by 0 "),
    ],
    ids=str,
)
def test_the_alarm_tells_of_a_constant_u_of_a_real_network(method, words):
    """What no comparison with N(0, I) sees: a constant at 3, and an autoencoder, whose KL is infinite."""
    run = made_run(method)
    with torch.no_grad():
        run.net.encoder.out.weight[: run.net.u] *= 1000  # a fresh encoder tells little apart
    assert run.collapse() is None
    assert words in constant_u(run, 3.0)


def test_the_alarm_looks_at_training_subjects_where_few_validate():
    cohort = made_cohort()
    few = cohort.split.copy()
    few[cohort.subjects.ids[cohort.rows("validation")[2:]]] = "train"
    one = few.copy()
    one[cohort.subjects.ids[cohort.rows("validation")[:1]]] = "train"
    for split in (few, one, one.replace("validation", "train")):
        run = made_run("dsd", replace(cohort, split=split))
        with torch.no_grad():
            run.net.encoder.out.weight[: run.net.u] *= 1000
        assert run.collapse() is None, "of one subject nothing spreads"
        assert "u is nearly the same" in constant_u(run, 3.0)


@every_method
def test_a_network_that_never_trained_says_so_in_its_run_json(tmp_path, method):
    """One step of a rate of almost nothing, from an encoder that says nothing but N(0, 1): `collapse` has the reason."""
    config = run_config(method, steps=1, lr=1e-12)
    run = Run(made_cohort(), config, tmp_path, silent)
    with torch.no_grad():
        run.net.encoder.out.weight.zero_()
        run.net.encoder.out.bias.zero_()
    run.train(lambda: False)
    said = json.loads((tmp_path / "run.json").read_text())["collapse"]
    if config.method.readout == "direct":
        assert said is None
    else:
        assert said.startswith("u " if config.method.readout == "u" else "every latent ")


def test_chance_is_the_likelihood_of_the_best_constant():
    torch.manual_seed(0)
    y = torch.rand(500)
    assert constant_likelihood(y) == pytest.approx(0, abs=1e-3)  # uniform similarities: a density of 1
    half = torch.tensor([0.0, 1.0, 1.0, 1.0])
    by_hand = 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    assert constant_likelihood(half, binary=True) == pytest.approx(by_hand, abs=1e-3)


def test_rank_correlation_is_spearman_s_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 50).astype(float), rng.integers(0, 5, 50).astype(float)
    assert spearman(torch.tensor(a), torch.tensor(b)) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(torch.ones(9), torch.arange(9.0)) == 0


# What is learned, and what cannot be.

FAIR = {name: method for name, method in CONFIGS.items() if not method.leaks}
SMALL = NetworkConfig(widths=(8, 16), hidden=32, u=1, v=9)


def trained(method, cohort, folder, steps):
    config = run_config(method, steps=steps, batch=16, lr=3e-3, log_every=50, save_every=50)
    network = SMALL.model_copy(update={"u": config.network.u, "v": config.network.v})  # that fit what the method is told
    config = config.model_copy(update={"network": network, "augment": AugmentConfig(shift=0, flip=False)})
    run = train_run(cohort, config, folder, silent)
    table = encode(cohort.subjects, run, cohort.split)
    assert len(table) == len(cohort.subjects)
    return table


def test_pairwise_learns_a_hidden_factor_that_the_vae_mixes_with_nuisance(tmp_path):
    """A nuisance shows in the same voxels as severity, and elsewhere too. Held-out subjects; the VAE's latent is chosen in its favour."""
    cohort = made_cohort(count=200, size=(16, 16), channels=1, seed=1, nuisance=1.0)
    truth, found = cohort.labels["fev1_pp"].to_numpy(), []
    for method in ({"method": "pairwise", "weight": 1e3}, "vae"):
        table = trained(method, cohort, tmp_path, 200)
        train, test = ((table["split"] == part).to_numpy() for part in ("train", "test"))
        means = table[[name for name in table if name in ("u_0", *[f"z_{d}" for d in range(10)])]].to_numpy()
        best = max(range(means.shape[1]), key=lambda d: abs(spearmanr(means[train, d], truth[train]).statistic))
        found.append(abs(spearmanr(means[test, best], truth[test]).statistic))
    pairwise, vae = found
    assert pairwise > 0.8 > vae


@pytest.mark.parametrize("method", FAIR.values(), ids=FAIR)
def test_labels_that_have_nothing_to_do_with_the_image_are_not_predicted(tmp_path, method):
    """The standing leak test, of all that do not say themselves that they leak."""
    cohort = made_cohort(count=200, size=(16, 16), channels=1, related=False)
    table = trained(method, cohort, tmp_path, 60).set_index("subject_id")
    codes = table[[column for column in table if column[:2] in ("u_", "z_", "p_") and not column.endswith("_std")]].to_numpy()[:, :1]
    truth = cohort.labels["fev1_pp"].to_numpy()
    train, test = ((table["split"] == part).to_numpy() for part in ("train", "test"))
    assert r2(truth[test], knn_regression(codes[train], truth[train], codes[test])) < 0.15
    assert abs(spearmanr(codes[test, 0], truth[test]).statistic) < 0.45  # of 40 subjects: p = .004
