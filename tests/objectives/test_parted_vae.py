import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from flat import FlatVAE, fixed_noise
from learning import CLASSES, teach
from tiny import NETWORK, made_batch, made_cohort, made_pair, run_config
from torch.distributions import Normal, kl_divergence

from copdvae.batches import Batches
from copdvae.dataset import AugmentConfig
from copdvae.errors import ConfigError, Stopped
from copdvae.metrics.neighbours import kappa
from copdvae.objectives.base import Batch
from copdvae.objectives.parted_presets import PRESETS, preset
from copdvae.objectives.parted_vae import PartedVAE, PartedVAEConfig
from copdvae.objectives.vae import VAEConfig
from copdvae.train import Run, RunConfig, train_run

TWO = {"columns": ["a", "b"], "kind": "class", "categories": [[0, 1, 2], [0, 1]]}
STEPS = {"columns": ["step"], "kind": "class", "categories": [[0, 1, 2, 3, 4]]}
NAN = float("nan")


def told(**settings) -> PartedVAEConfig:
    return PartedVAEConfig.parse({"labels": TWO} | settings)


def images(count: int = 4, pixels: int = 5, label: list | None = None) -> Batch:
    x = torch.rand(count, 1, pixels, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    known = None if label is None else torch.tensor(label, dtype=torch.double)
    return Batch(x, x > 2, torch.ones(count, 1, dtype=torch.double), label=known)


def made(config: PartedVAEConfig, u: int, latents: int, pixels: int = 5) -> tuple[FlatVAE, PartedVAE]:
    net = FlatVAE(u, latents, pixels)
    torch.manual_seed(3)
    return net, config.build(net, 0).double()  # type: ignore[arg-type]


@pytest.mark.parametrize(("u", "latents"), [(2, 2), (2, 3), (4, 5)])
@pytest.mark.parametrize(("step", "training"), [(0, True), (100, True), (10**6, True), (0, False)])
def test_the_loss_is_equation_a5_done_one_image_variable_and_class_at_a_time(monkeypatch, u, latents, step, training):
    fixed_noise(monkeypatch)
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.linspace(0.1, 0.9, like.numel()).view(like.shape).to(like))
    config = told(
        gamma_c=2, gamma_h=3, gamma_z=5, gamma_u=7, gamma_bc=11, capacity_z=4, capacity_u=1.5, capacity_steps=400, steepness_steps=200
    )
    (net, objective), batch = made(config, u, latents), images()
    net.train(training)
    losses = objective(net, batch, step)

    steepness = min(8.0, 1 + 7 * step / 200) if training else 8.0
    share = min(1.0, step / 400) if training else 1.0
    noise = torch.randn(4, latents, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    each = u // 2

    def u_of(h, c, k):
        attention = 1 / (1 + (-steepness * (objective.heads.attention[k].weight @ c + objective.heads.attention[k].bias)).exp())
        both = (h * attention) @ net.read
        return both[k * each : (k + 1) * each], (both[latents + k * each : latents + (k + 1) * each] / 2).exp()

    rec = kl_u = kl_z = entropy = 0.0
    shares = [torch.zeros(3, dtype=torch.double), torch.zeros(2, dtype=torch.double)]
    for i in range(4):
        h = batch.image[i, 0] @ net.into
        plain = h @ net.read
        mean, std = plain[:latents].clone(), (plain[latents:] / 2).exp().clone()
        for k, size in enumerate((3, 2)):
            logits = objective.heads.classes[k].weight @ h + objective.heads.classes[k].bias
            p = logits.exp() / logits.exp().sum()
            shares[k] += p / 4
            entropy -= (p * p.log()).sum().item()
            uniform = torch.linspace(0.1, 0.9, 4 * size).view(4, size)[i].double()
            soft = ((logits - (-uniform.log()).log()) / 0.67).exp()
            c = soft / soft.sum() if training else (logits == logits.max()).double()
            mean[k * each : (k + 1) * each], std[k * each : (k + 1) * each] = u_of(h, c, k)
            prior = objective.heads.priors[k]
            for number in range(size):
                one = torch.zeros(size, dtype=torch.double)
                one[number] = 1
                m, s = u_of(h, one, k)
                for d in range(each):
                    given = Normal(prior.mean[number, d], (0.5 * (2 * prior.spread[number, d].tanh() - 1)).exp())
                    kl_u += (p[number] * kl_divergence(Normal(m[d], s[d]), given)).item()
        kl_z += sum(0.5 * (m**2 + s**2 - 1) - math.log(s) for m, s in zip(mean[u:].tolist(), std[u:].tolist(), strict=True))
        z = mean + std * noise[i]
        rec += sum(0.5 * ((batch.image[i, 0] - z @ net.back) ** 2 + math.log(2 * math.pi))).item()
    kl_c = sum((q * (q * len(q)).log()).sum().item() for q in shares)
    overlap = sum(prior.overlap(0.15).item() for prior in objective.heads.priors)
    wanted = {
        "rec": rec / 4, "kl_u": 7 * abs(kl_u / 4 - share * 1.5), "kl_z": 5 * abs(kl_z / 4 - share * 4),
        "entropy": 3 * entropy / 4, "kl_c": 2 * kl_c, "overlap": 11 * overlap,
    }  # fmt: skip
    assert {name: term.item() for name, term in losses.terms.items()} == pytest.approx(wanted, rel=1e-8, abs=1e-8)
    assert losses.by_player["model"].item() == pytest.approx(sum(wanted.values()), rel=1e-9)


def test_the_labelled_step_is_equation_7_and_an_unknown_label_costs_nothing():
    net, objective = made(told(), 2, 3)
    label = [[2, 0], [0, NAN], [NAN, NAN], [1, 1]]
    further = images(label=label)
    losses = objective.before(net, replace(images(), also={"label": further}), 0)
    total = 0.0
    for i, row in enumerate(label):
        h = further.image[i, 0] @ net.into
        for k, number in enumerate(row):
            logits = (objective.heads.classes[k].weight @ h + objective.heads.classes[k].bias).tolist()
            total -= 0 if math.isnan(number) else logits[int(number)] - math.log(sum(math.exp(value) for value in logits))
    assert losses is not None
    assert losses.by_player["labelled"].item() == pytest.approx(total / 4, rel=1e-9)


@pytest.mark.parametrize(("gamma_c", "weight"), [(40.0, 40.0), (0.5, 1.0)])
def test_weights_are_picked_by_the_loss_and_what_validation_labels_say_of_the_classes(gamma_c, weight):
    """Equation 7 on the labelled images, in nats that weigh what q(c)'s do, or 1; not while training, which has its own step for them."""
    (net, objective), batch = made(told(gamma_c=gamma_c), 2, 4), images(3)
    labelled = images(4, label=[[0, 1], [2, 0], [1, NAN], [0, 0]])
    batch = replace(batch, also={"label": labelled})
    net.eval()
    p = objective.class_probabilities(net, labelled)
    total = 0.0
    for i, k in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)):
        total -= math.log(p[k][i, int(labelled.label[i, k])].item())  # type: ignore[index]
    losses = objective(net, batch, 0)
    assert losses.logs["class_loss"].item() == pytest.approx(total / 4, rel=1e-9)
    assert losses.logs["selection"].item() == pytest.approx(losses.by_player["model"].item() + weight * total / 4, rel=1e-9)
    assert "class_loss" not in objective(net.train(), batch, 0).logs


def test_validation_labels_have_a_say_in_the_weights_that_are_kept_and_test_labels_have_none(tmp_path):
    cohort, config = made_cohort(), run_config({"method": "parted_vae", "gamma_c": 1e5}, lr=0.01, steps=8, save_every=1)
    found = []
    for name, part in (("a", None), ("b", "validation"), ("c", "test")):
        labels = cohort.labels.copy()
        if part:
            rows = cohort.rows(part)
            labels.iloc[rows] = labels.iloc[rows[::-1]].to_numpy()
        folder = train_run(replace(cohort, labels=labels), config, tmp_path / name, lambda line: None)
        log = pd.read_csv(folder / "log.csv")
        best = json.loads((folder / "run.json").read_text())["best"]
        assert best["score"] == log["validation_selection"].min()
        assert log["validation_class_loss"].notna().all()
        found.append((best, log["class_loss"].tolist(), (folder / "checkpoint.safetensors").read_bytes()))
    assert found[0][0]["step"] != found[1][0]["step"]
    assert found[0][1] == found[1][1], "they move no weight"
    assert found[0] == found[2]


def test_it_trains_encoder_and_class_heads_and_nothing_else():
    method = PartedVAEConfig()
    net, objective = made_pair(method)
    losses = objective.before(net, made_batch(method), 0)
    assert losses is not None
    names = {id(weight): name for name, weight in [*net.named_parameters(), *objective.named_parameters()]}
    moved = {names[id(weight)] for weight in objective.players(net)["labelled"]}
    assert not any(name.startswith(("decoder", "encoder.out", "likelihood", "heads.attention", "heads.priors")) for name in moved)
    weights = [*net.parameters(), *objective.parameters()]
    gradients = torch.autograd.grad(losses.by_player["labelled"], weights, allow_unused=True)
    assert {names[id(w)] for w, g in zip(weights, gradients, strict=True) if g is not None} == moved


def test_capacities_are_distances_of_the_batch_s_mean_and_not_of_each_image():
    """Images whose KL lie on both sides of C: the two differ."""
    config = told(capacity_z=1.0, gamma_z=1.0)
    net, objective = made(config, 2, 4)
    net.eval()
    batch = images(8)
    q = objective.posterior(net, batch)
    kl = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log())[:, 2:].sum(dim=1)
    middle = kl.mean().item()
    objective.config = told(capacity_z=middle, gamma_z=1.0)
    assert objective(net, batch, 0).terms["kl_z"].item() == pytest.approx(0, abs=1e-9)
    assert (kl - middle).abs().mean().item() > 0.01


def test_schedules_are_functions_of_the_step_and_at_their_end_when_not_training():
    objective = PartedVAE(PartedVAEConfig(**preset("mnist", labelled=True)), FlatVAE(1, 3))  # type: ignore[arg-type]
    assert objective.schedule(0, True) == (1.0, 0.0)
    assert objective.schedule(5000, True) == pytest.approx((1 + 5000 * 2e-4, 0.05))
    assert objective.schedule(35_000, True) == pytest.approx((8.0, 0.35))
    assert objective.schedule(10**6, True) == objective.schedule(0, False) == (8.0, 1.0)
    short = PartedVAE(PartedVAEConfig(**preset("short", labelled=True)), FlatVAE(1, 3))  # type: ignore[arg-type]
    assert short.schedule(500, True) == (8.0, 1.0)


def test_presets_are_settings_with_the_paper_s_classes():
    for name, classes in (("mnist", (10,)), ("dsprites", (3,)), ("celeba", (4, 3, 2, 3, 2, 2, 2, 2))):
        assert PartedVAEConfig(**preset(name, labelled=False)).sizes == classes
        assert PartedVAEConfig(**preset(name, labelled=True)).sizes == (6,)
    assert sum(PRESETS["celeba"]["values"]) == 20  # the width of Table 5's layer


def test_without_its_terms_only_the_reconstruction_is_left_and_without_u_s_attention_it_is_the_vae(monkeypatch):
    """No weight but gamma_z = 1 at capacity 0: rec + KL of z; with u's rows of the encoder at the prior, whose KL is 0, the VAE's loss."""
    monkeypatch.setattr(Normal, "rsample", lambda q, shape=(): q.loc + 0.3 * q.scale)
    nothing = {"gamma_c": 0, "gamma_h": 0, "gamma_u": 0, "gamma_bc": 0, "gamma_z": 1, "capacity_z": 0}
    net, objective = made_pair(PartedVAEConfig(**nothing))
    with torch.no_grad():
        for rows in (slice(0, net.u), slice(net.latents, net.latents + net.u)):
            net.encoder.out.weight[rows] = 0
            net.encoder.out.bias[rows] = 0
    batch = made_batch(VAEConfig())
    plain = VAEConfig().build(net, 0)(net, batch, 0).by_player["model"]
    torch.testing.assert_close(objective(net, batch, 10**6).by_player["model"], plain, rtol=1e-6, atol=0)


def test_each_u_depends_on_its_own_variable_and_z_on_none():
    net, objective = made(told(), 4, 6)
    net.eval()
    h = net.features(images().image)
    c = [torch.eye(3, dtype=torch.double)[[0, 1, 2, 0]], torch.eye(2, dtype=torch.double)[[0, 1, 0, 1]]]
    before = objective.heads.joined(net, h, c, 8.0)
    after = objective.heads.joined(net, h, [c[0].roll(1, 1), c[1]], 8.0)
    same = (before.loc == after.loc).all(dim=0) & (before.scale == after.scale).all(dim=0)
    assert same.tolist() == [False, False, True, True, True, True]


def test_the_decoder_never_sees_c():
    """With u and z the same, whatever the classes are, the image is the same: decode takes d(u) + d(z) numbers and no more."""
    net, objective = made_pair(PartedVAEConfig())
    assert next(net.decoder.parameters()).shape[1] == net.latents
    assert not any(id(weight) in {id(w) for w in net.decoder.parameters()} for weight in objective.parameters())


def test_scored_are_the_likeliest_classes_and_probabilities_are_a_softmax():
    net, objective = made(told(), 2, 3)
    net.eval()
    batch = images()
    h = net.features(batch.image)
    p = objective.class_probabilities(net, batch)
    assert [tuple(own.shape) for own in p] == [(4, 3), (4, 2)]
    for k, own in enumerate(p):
        torch.testing.assert_close(own, objective.heads.classes[k](h).softmax(dim=1))
    c = [(own == own.amax(dim=1, keepdim=True)).double() for own in p]
    torch.testing.assert_close(objective.posterior(net, batch).loc, objective.heads.joined(net, h, c, 8.0).loc)


def test_images_of_a_class_are_drawn_from_its_prior_and_z_from_a_standard_gaussian():
    net, objective = made(told(), 4, 7)
    q = objective.class_prior(net, torch.tensor([[2, 0], [1, 1]]))
    first, second = objective.heads.priors
    torch.testing.assert_close(
        q.loc, torch.stack([torch.cat([first.mean[i], second.mean[j], torch.zeros(3).double()]) for i, j in ((2, 0), (1, 1))])
    )
    assert (q.scale[:, 4:] == 1).all()
    torch.testing.assert_close(q.scale[0, :2].log() * 2, first.log_variance[2])
    torch.testing.assert_close(q.scale[1, 2:4].log() * 2, second.log_variance[1])


@pytest.mark.parametrize(("settings", "u", "latents"), [({"labels": None, "values": [3]}, 1, 2), ({}, 2, 4)])
def test_its_gradient_is_that_of_finite_differences(monkeypatch, settings, u, latents):
    fixed_noise(monkeypatch)
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.linspace(0.1, 0.9, like.numel()).view(like.shape).to(like))
    config = told(**settings)
    net, objective = made(config, u, latents, pixels=3)
    batch = images(3, pixels=3)
    net_names, own_names = [name for name, _ in net.named_parameters()], [name for name, _ in objective.named_parameters()]
    weights = [weight.detach().clone().requires_grad_() for weight in (*net.parameters(), *objective.parameters())]
    for name in net_names:
        delattr(net, name)

    def loss(*given):
        for name, weight in zip(net_names, given, strict=False):
            setattr(net, name, weight)
        values = dict(zip(own_names, given[len(net_names) :], strict=True))
        return torch.func.functional_call(objective, values, (net, batch, 100)).by_player["model"]

    assert torch.autograd.gradcheck(loss, weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": {"kind": "zscore"}}, "a discrete variable needs class, found zscore"),
        ({"labels": None}, "either labels"),
        ({"values": [3]}, "either labels"),
        ({"labels": None, "values": [1]}, "greater than or equal to 2"),
        ({"labels": {"kind": "class", "columns": ["gold"], "categories": [[7, 8]]}}, "fewer than two of 7, 8"),
        ({"labels": {"kind": "class", "columns": ["nothing"], "bins": 3}}, "not in the table"),
    ],
)
def test_supervision_that_does_not_fit_is_refused(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        Run(made_cohort(), run_config({"method": "parted_vae"} | settings), tmp_path, print)


def test_every_variable_has_as_many_latents():
    assert told().misfit(3, 2) == "d(u) must be a multiple of 2, as much for each discrete variable"
    assert not told().misfit(4, 0)
    settings = run_config("parted_vae").plain() | {"method": told().plain(), "network": NETWORK.plain()}
    with pytest.raises(ConfigError, match="multiple of 2"):
        RunConfig.parse(settings)


BOTH = {"columns": ["gold", "fev1_pp"], "kind": "class", "bins": 2}


@pytest.mark.parametrize("settings", [{"labels": BOTH}, {"labels": None, "values": [3, 2]}])
def test_with_two_variables_and_without_labels_stopping_and_resuming_gives_the_same_bytes(tmp_path, settings):
    """In the middle of both schedules."""
    config = run_config(PartedVAEConfig.parse({"capacity_steps": 8, "steepness_steps": 5} | settings), steps=6)
    asked = iter([False, False, True] + [True] * 9)
    cohort = made_cohort()
    whole = train_run(cohort, config, tmp_path / "whole", lambda line: None)
    with pytest.raises(Stopped):
        train_run(cohort, config, tmp_path / "parts", lambda line: None, lambda: next(asked))
    parts = train_run(cohort, config, tmp_path / "parts", lambda line: None)
    for name in ("weights.safetensors", "checkpoint.safetensors", "log.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def class_kappa(result) -> float:
    """Agreement of the likeliest class of each test image with the true one."""
    run, rows = result.run, np.flatnonzero(result.split == "test")
    batch = Batches(run.cohort.subjects, rows, len(rows), 0, "image", AugmentConfig()).gather(np.arange(len(rows)), None)
    run.net.eval()
    with torch.no_grad():
        found = run.objective.class_probabilities(run.net, batch)[0].argmax(dim=1).numpy()
    return kappa(result.truth["step"].to_numpy()[rows], found.astype(float))


def learning(**settings) -> PartedVAEConfig:
    return PartedVAEConfig.parse({"labels": STEPS, "capacity_u": 1.0, "capacity_z": 5.0, "gamma_bc": 100.0, "overlap": 0.05} | settings)


def test_a_fraction_of_labels_teaches_it_the_classes(tmp_path):
    result = teach(learning(labels=STEPS | {"fraction": 0.3}), tmp_path, steps=600)
    assert class_kappa(result) > 0.8
    means = result.run.objective.heads.priors[0].mean[:, 0].tolist()
    assert means == sorted(means)
    assert len(means) == CLASSES


def test_labels_of_other_images_teach_it_nothing(tmp_path):
    assert abs(class_kappa(teach(learning(), tmp_path, related=False, steps=600))) < 0.12


def test_without_labels_it_reconstructs_and_uses_every_class(tmp_path):
    """At gamma_c 15 and gamma_h 30, the paper's for digits, certainty is cheaper than variety: all images end in one class."""
    result = teach(learning(labels=None, values=[5], gamma_c=100, gamma_h=10), tmp_path, steps=600)
    assert result.reconstruction() > 0.6
    log = result.run.log.last()
    assert log["kl_c"] < 0.1  # the classes are as frequent as they are meant to be
    assert log["entropy"] < 0.5  # of log 5 = 1.6: and each image is in one
    assert "class_loss" not in log
