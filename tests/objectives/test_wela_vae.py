import itertools
import math

import numpy as np
import pytest
import torch
from flat import FlatVAE, fixed_noise
from learning import CLASSES, blobs, teach
from tiny import made_batch, made_cohort, made_net, made_pair, run_config
from torch.distributions import Normal

from copdvae.encode import encode, latent_names
from copdvae.encode import posterior as encoded
from copdvae.errors import ConfigError
from copdvae.metrics.neighbours import kappa, knn_classification
from copdvae.objectives.base import Batch
from copdvae.objectives.beta_tcvae import BetaTCVAEConfig
from copdvae.objectives.vae import VAEConfig
from copdvae.objectives.wela_vae import GAMMA, WeLaVAE, WeLaVAEConfig
from copdvae.predict import predict
from copdvae.train import Run, train_run

TWO = {"columns": ["a", "b"], "kind": "class", "categories": [[0, 1, 2], [0, 1]]}
STEPS = {"columns": ["step"], "kind": "class", "categories": [[0, 1, 2, 3, 4]]}
NAN = float("nan")
LABEL = torch.tensor([[2, 0], [0, NAN], [NAN, NAN], [1, 1]], dtype=torch.double)


def told(**settings) -> WeLaVAEConfig:
    return WeLaVAEConfig.parse({"labels": TWO, "gamma": 30.0, "beta": 5.0} | settings)


def labelled(label: torch.Tensor = LABEL, pixels: int = 5) -> Batch:
    x = torch.rand(len(label), 1, pixels, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    return Batch(x, x > 2, torch.ones(len(label), 1, dtype=torch.double), label=label, drawn_from=50)


def made(config: WeLaVAEConfig, latents: int = 2, pixels: int = 5) -> tuple[FlatVAE, WeLaVAE]:
    net = FlatVAE(1, latents, pixels, inputs=config.inputs)
    torch.manual_seed(3)
    objective = config.build(net, 0)  # type: ignore[arg-type]
    return net, objective.double()


@pytest.mark.parametrize("latents", [1, 2, 3, 4])
@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_the_loss_is_equation_4_done_one_image_and_one_label_at_a_time(monkeypatch, latents, sampling):
    fixed_noise(monkeypatch)
    config = told(variant="strict", sampling=sampling)
    (net, objective), batch = made(config, latents), labelled()
    losses = objective(net, batch, 0)

    one_hot = torch.tensor([[0, 0, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]])
    q = net.encode(batch.image, None, one_hot)
    z = q.rsample()
    n = range(len(z))
    cost = kl = label = tc = 0.0
    for i in n:
        logits = objective.labels(z[i]).tolist()
        for mine, number in ((logits[:3], LABEL[i, 0].item()), (logits[3:], LABEL[i, 1].item())):
            if not math.isnan(number):
                label -= mine[int(number)] - math.log(sum(math.exp(value) for value in mine))
        cost += sum(0.5 * ((batch.image[i, 0] - z[i] @ net.back) ** 2 + math.log(2 * math.pi))).item()
        kl += sum(0.5 * (m**2 + s**2 - 1) - math.log(s) for m, s in zip(q.loc[i].tolist(), q.scale[i].tolist(), strict=True))
        density = [[Normal(q.loc[j, d], q.scale[j, d]).log_prob(z[i, d]).item() for d in range(latents)] for j in n]
        weight = [0.25] * 4 if sampling == "weighted" else [1 / 50 if j == i else 49 / 50 / 3 for j in n]
        joint = math.log(sum(w * math.exp(sum(row)) for w, row in zip(weight, density, strict=True)))
        tc += joint - sum(math.log(sum(w * math.exp(row[d]) for w, row in zip(weight, density, strict=True))) for d in range(latents))
    wanted = {"rec": cost / 4, "label": 30 * label / 4, "kl": kl / 4, "tc": 5 * tc / 4}
    assert {name: term.item() for name, term in losses.terms.items()} == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert losses.by_player["model"].item() == pytest.approx(sum(wanted.values()), rel=1e-9)


def test_without_labels_and_total_correlation_it_is_the_vae_and_with_beta_it_is_beta_tcvae_at_beta_plus_1(monkeypatch):
    monkeypatch.setattr(Normal, "rsample", lambda q, shape=(): q.loc + 0.3 * q.scale)
    batch = made_batch(WeLaVAEConfig())
    for beta, method in ((0, VAEConfig()), (40, BetaTCVAEConfig(beta=41, sampling="weighted"))):
        ours, (net, objective) = WeLaVAEConfig(gamma=0, beta=beta, hide=1), made_pair(WeLaVAEConfig(gamma=0, beta=beta, hide=1))
        assert ours.inputs == 12
        loss = objective(net, batch, 0).by_player["model"]
        torch.testing.assert_close(loss, method.build(net, 0)(net, batch, 0).by_player["model"], rtol=1e-6, atol=0)


def test_what_the_encoder_sees_is_one_hot_and_says_what_is_hidden():
    one_hot = [[0, 0, 1, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]]
    _, strict = made(told(variant="strict"))
    assert strict.seen(LABEL, True).tolist() == strict.seen(LABEL, False).tolist() == one_hot
    _, open_ = made(told(hide=1e-9))
    assert open_.seen(LABEL, True).tolist() == [[*row, row[0] + row[1] + row[2], row[3] + row[4]] for row in one_hot]
    assert open_.seen(LABEL, False).tolist() == [[0] * 7] * 4
    _, hidden = made(told(hide=1.0))
    assert hidden.seen(LABEL, True).tolist() == [[0] * 7] * 4


def test_each_label_is_hidden_by_itself_as_often_as_asked():
    torch.manual_seed(0)
    _, objective = made(told(hide=0.3))
    given = objective.seen(torch.zeros(20_000, 2), True)[:, 5:]
    assert given.mean(dim=0).tolist() == pytest.approx([0.7, 0.7], abs=0.015)  # four standard errors
    assert given.prod(dim=1).mean().item() == pytest.approx(0.49, abs=0.015)


def test_an_unknown_label_costs_nothing_and_moves_nothing():
    net, objective = made(told(variant="strict"))
    losses = objective(net, labelled(torch.full((4, 2), NAN, dtype=torch.double)), 0)
    assert losses.terms["label"].item() == 0
    gradients = torch.autograd.grad(losses.by_player["model"], list(objective.parameters()), allow_unused=True)
    assert all(gradient is None or gradient.abs().max() == 0 for gradient in gradients)


@pytest.mark.parametrize("latents", [1, 3])
@pytest.mark.parametrize("variant", ["fixed", "strict"])
def test_its_gradient_is_that_of_finite_differences(monkeypatch, latents, variant):
    fixed_noise(monkeypatch)
    config = told(variant=variant)
    net, objective = made(config, latents, pixels=3)
    objective.labels[1] = torch.nn.Tanh()  # smooth
    batch = labelled(pixels=3)
    net_names, own_names = [name for name, _ in net.named_parameters()], [name for name, _ in objective.named_parameters()]

    def loss(*weights):
        torch.manual_seed(0)  # of what is hidden
        for name, weight in zip(net_names, weights, strict=False):
            setattr(net, name, weight)
        values = dict(zip(own_names, weights[len(net_names) :], strict=True))
        return torch.func.functional_call(objective, values, (net, batch, 0)).by_player["model"]

    weights = [weight.detach().clone().requires_grad_() for weight in (*net.parameters(), *objective.parameters())]
    for name in net_names:
        delattr(net, name)
    assert torch.autograd.gradcheck(loss, weights)


def test_scored_are_latents_with_labels_hidden_and_in_strict_with_those_that_are_there():
    for variant, differs in (("fixed", False), ("strict", True)):
        config = told(variant=variant)
        net, objective = made(config)
        batch = labelled()
        bare = Batch(batch.image, batch.lung, batch.present)
        plain = net.encode(batch.image)
        torch.testing.assert_close(objective.posterior(net, bare).loc, plain.loc)
        assert torch.allclose(objective.posterior(net, batch).loc, plain.loc) != differs
        net.eval()
        seen = net.encode(batch.image, None, objective.seen(LABEL, False))  # and so are they validated
        assert torch.allclose(seen.loc, plain.loc) != differs


def test_gamma_is_the_paper_s_by_classes_of_a_label():
    for classes, gamma in {2: 2000, 3: 1500, 4: 1000, 5: 800, 6: 750, 7: 600, 8: 500}.items():
        config = WeLaVAEConfig.parse({"labels": {"columns": ["a"], "kind": "class", "bins": classes}})
        objective = config.build(made_net(inputs=config.inputs), 0)
        assert objective.gamma == GAMMA[classes] == gamma
        assert abs(gamma * classes / 64**2 - 1) < 0.12  # B's rule, which its table follows roughly


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": {"kind": "zscore"}}, "a cross-entropy needs class, found zscore"),
        ({"labels": {"kind": "unit"}}, "a cross-entropy needs class, found unit"),
        ({"labels": {"kind": "class", "bins": 9}}, "name a gamma"),
        ({"labels": TWO}, "name a gamma"),
        ({"labels": {"kind": "class", "bins": 5, "fraction": 0.5}, "variant": "strict"}, "strict gives the encoder every label"),
        ({"labels": {"kind": "class", "bins": 5, "columns": []}}, "name at least one"),
        ({"labels": {"kind": "class", "bins": 5, "columns": ["nothing"]}}, "not in the table"),
    ],
)
def test_supervision_that_does_not_fit_is_refused(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        Run(made_cohort(), run_config({"method": "wela_vae"} | settings), tmp_path, print)


def trained(tmp_path, variant):
    cohort = made_cohort()
    config = run_config({"method": "wela_vae", "variant": variant})
    return cohort, config, train_run(cohort, config, tmp_path, lambda line: None)


def test_only_strict_looks_at_labels_when_it_encodes_and_each_subject_at_its_own(tmp_path):
    """Test subjects' measures change: in `strict` their own latents do, in `fixed` none."""
    for variant in ("fixed", "strict"):
        cohort, config, folder = trained(tmp_path / variant, variant)
        test = cohort.rows("test")
        other = cohort.labels.copy()
        other.loc[cohort.subjects.ids[test], "fev1_pp"] += 1000  # the highest bin, whatever it was
        names = latent_names(config)
        one, two = (encode(cohort.subjects, folder, cohort.split, table)[names].to_numpy() for table in (cohort.labels, other))
        moved = np.abs(one - two).max(axis=1) > 0
        assert not moved[np.setdiff1d(np.arange(len(moved)), test)].any(), "bins come from training subjects"
        if variant == "fixed":
            assert not moved.any()
        else:
            lower = cohort.labels["fev1_pp"].to_numpy()[test] < np.quantile(cohort.labels["fev1_pp"].iloc[cohort.rows("train")], 0.8)
            assert (moved[test] == lower).all()


def test_new_scans_have_no_labels_for_a_run_that_leaks(tmp_path):
    assert not WeLaVAEConfig().leaks
    _, _, folder = trained(tmp_path / "runs", "strict")
    (tmp_path / "cohort.csv").write_text("subject_id\n")
    with pytest.raises(ConfigError, match=r"is given the labels .* and new scans have none"):
        predict(folder, tmp_path / "manifest.csv", tmp_path / "out.csv", tmp_path / "cache")


def test_strict_leaks_what_no_image_shows_and_fixed_does_not(tmp_path):
    """Labels of other images: with them at hand the encoder of `strict` says them perfectly, from the images alone neither can."""
    found = {}
    for variant in ("strict", "fixed"):
        method = WeLaVAEConfig.parse({"variant": variant, "labels": STEPS, "gamma": 300.0, "beta": 4.0})
        result = teach(method, tmp_path / variant, related=False, steps=600)
        cohort = blobs(related=False)
        label = cohort.labels[["step"]].to_numpy(np.float32)
        given, _ = encoded(cohort.subjects, result.run.config, result.run.net, result.run.objective, label)
        train, test = result.split == "train", result.split == "test"
        for name, codes in (("given", given), ("alone", result.latents)):
            guessed = knn_classification(codes[train], label[train, 0], codes[test], 5, tuple(range(CLASSES)))
            found[variant, name] = kappa(label[test, 0], guessed)
    assert found["strict", "given"] > 0.95
    for key in itertools.product(("strict", "fixed"), ("alone", "given")):
        assert key == ("strict", "given") or abs(found[key]) < 0.12
