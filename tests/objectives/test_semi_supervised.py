import itertools
import math
from dataclasses import replace

import pytest
import torch
from tiny import made_batch, made_cohort, made_pair, run_config

from copdvae.config import Config
from copdvae.errors import ConfigError
from copdvae.objectives.label_loss import as_latent, label_loss
from copdvae.objectives.larvae import LaRVAEConfig
from copdvae.objectives.ss_beta_tcvae import SSBetaTCVAEConfig
from copdvae.objectives.ss_beta_vae import SSBetaVAEConfig
from copdvae.objectives.ss_factor_vae import SSFactorVAEConfig
from copdvae.objectives.terms import reconstruction
from copdvae.train import Run

BASES = {
    "beta_vae": (SSBetaVAEConfig, {"beta": 3.0}),
    "factor_vae": (SSFactorVAEConfig, {"gamma": 3.0, "critic": {"layers": 2, "width": 16}}),
    "factor_vae strict": (SSFactorVAEConfig, {"variant": "strict", "critic": {"layers": 2, "width": 16}}),
    "beta_tcvae": (SSBetaTCVAEConfig, {"beta": 3.0}),
}
UNIT = {"label_loss": "cross_entropy", "labels": {"kind": "unit"}}
every_base = pytest.mark.parametrize("base", BASES)


def semi(base: str, **settings) -> Config:
    kind, own = BASES[base]
    return kind.parse({"base": own, **settings})


def larvae(base: str, **settings) -> Config:
    return LaRVAEConfig.parse({"base": {"method": base.split()[0], **BASES[base][1]}, **settings})


def losses_of(method, batch, network, step=0):
    net, objective = made_pair(method, network)
    torch.manual_seed(5)
    return objective(net, batch, step), net, objective


def network_of(method):
    return run_config(method).network


def gradients(losses, net, objective) -> list[torch.Tensor]:
    for player, weights in objective.players(net).items():
        losses.by_player[player].backward(inputs=weights, retain_graph=True)
    return [weight.grad for weights in objective.players(net).values() for weight in weights]


def same_exactly(method, other):
    batch, network = made_batch(method), network_of(method)
    one, two = losses_of(method, batch, network), losses_of(other, batch, network)
    assert one[0].by_player == two[0].by_player
    assert all(torch.equal(a, b) for a, b in zip(gradients(*one), gradients(*two), strict=True))


@every_base
@pytest.mark.parametrize("settings", [{}, UNIT], ids=["l2", "cross_entropy"])
def test_at_gamma_lb_0_it_is_its_base_exactly(base, settings):
    method = semi(base, gamma_lb=0, **settings)
    same_exactly(method, method.base)


@every_base
@pytest.mark.parametrize("settings", [{}, UNIT], ids=["l2", "cross_entropy"])
def test_larvae_at_tau_0_is_the_semi_supervised_objective_of_its_base_exactly(base, settings):
    same_exactly(larvae(base, tau=0, gamma_lb=20, **settings), semi(base, gamma_lb=20, **settings))


def label_loss_by_hand(mu, label, kind) -> list[float]:
    values = []
    for i in range(len(mu)):
        total = 0.0
        for m, y in zip(mu[i].tolist(), label[i].tolist(), strict=True):
            if math.isnan(y):
                continue
            likely = 1 / (1 + math.exp(-m))
            total += (m - y) ** 2 if kind == "l2" else -y * math.log(likely) - (1 - y) * math.log(1 - likely)
        values.append(total)
    return values


@pytest.mark.parametrize("labels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["l2", "cross_entropy"])
def test_the_label_loss_is_a_sum_over_known_labels(labels, kind):
    g = torch.Generator().manual_seed(labels)
    mu, label = torch.randn(5, labels, generator=g, dtype=torch.double), torch.rand(5, labels, generator=g, dtype=torch.double)
    label[1, 0] = float("nan")
    label[3] = float("nan")
    found = label_loss(mu, label, kind)
    torch.testing.assert_close(found, torch.tensor(label_loss_by_hand(mu, label, kind), dtype=torch.double))
    assert found[3] == 0
    assert torch.autograd.gradcheck(lambda m: label_loss(m, label, kind), mu.requires_grad_())


def test_a_label_s_logit_is_what_the_cross_entropy_asks_of_the_mean():
    """The mean that a label makes likeliest, within the margin from 0 and 1, where it would be infinite."""
    label = torch.tensor([[0.0], [0.05], [0.2], [0.5], [0.9], [1.0]])
    u = as_latent(label, "cross_entropy")
    torch.testing.assert_close(u.sigmoid(), label.clamp(0.05, 0.95))
    assert float(u.abs().max()) < 3
    for kind, mu, y in (("cross_entropy", u[1:5], label[1:5]), ("l2", as_latent(label, "l2"), label)):
        mu = mu.clone().requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(label_loss(mu, y, kind).sum(), mu)[0], torch.zeros_like(mu), atol=1e-6, rtol=0)


@every_base
@pytest.mark.parametrize("settings", [{}, UNIT], ids=["l2", "cross_entropy"])
def test_the_labelled_batch_alone_pays_for_labels_and_the_base_sees_the_other(base, settings):
    method = semi(base, gamma_lb=20, **settings)
    batch, network = made_batch(method), network_of(method)
    losses, _, _ = losses_of(method, batch, network)
    plain, _, _ = losses_of(method.base, batch, network)
    net, _ = made_pair(method, network)
    told = batch.also["label"]
    mu = net.encode(told.image, told.present).loc[:, :2]
    supervised = sum(label_loss_by_hand(mu, told.label, method.label_loss)) / 6
    assert float(losses.logs["label_loss"].detach()) == pytest.approx(supervised, rel=1e-4)
    assert float(losses.terms["label"].detach()) == pytest.approx(20 * supervised, rel=1e-4)
    for player, value in plain.by_player.items():
        extra = 20 * supervised if player == "model" else 0.0
        torch.testing.assert_close(losses.by_player[player], value + extra)


@every_base
def test_weights_are_picked_by_the_loss_with_its_labels_and_without_what_a_critic_says(base):
    for method in (semi(base, gamma_lb=20), larvae(base, gamma_lb=20, tau=3)):
        losses, _, _ = losses_of(method, made_batch(method), network_of(method))
        wanted = sum(term for name, term in losses.terms.items() if name != "tc" or "factor" not in base)
        torch.testing.assert_close(losses.logs[method.selects_by], wanted)
        assert {"label", *(["replacement"] if method.name == "larvae" else [])} < set(losses.terms)


@every_base
@pytest.mark.parametrize("settings", [{}, UNIT], ids=["l2", "cross_entropy"])
def test_larvae_decodes_the_true_labels_with_the_inferred_nuisance_and_adds_the_nuisance_s_kl(base, settings):
    method = larvae(base, gamma_lb=20, tau=3, **settings)
    batch, network = made_batch(method), network_of(method)
    losses, _, _ = losses_of(method, batch, network)
    before, net, objective = losses_of(semi(base, gamma_lb=20, **settings), batch, network)

    net, objective = made_pair(method, network)
    told = batch.also["label"]
    torch.manual_seed(5)
    objective.base(net, batch, 0)  # the base's noise comes first
    q = net.encode(told.image, told.present)
    z = q.rsample()
    assert z.shape[1] > 2
    y = told.label if method.label_loss == "l2" else (told.label.clamp(0.05, 0.95) / (1 - told.label.clamp(0.05, 0.95))).log()
    rec, _ = reconstruction(net, torch.cat([y, z[:, 2:]], dim=1), told)
    kl = 0.5 * (q.loc[:, 2:] ** 2 + q.scale[:, 2:] ** 2 - 1 - 2 * q.scale[:, 2:].log()).sum(dim=1)
    expected = (rec + kl).mean()
    torch.testing.assert_close(losses.logs["replacement"], expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(losses.by_player["model"], before.by_player["model"] + 3 * expected, rtol=1e-5, atol=1e-2)


def test_the_replacement_rewards_a_nuisance_near_the_prior():
    """Eq. 9 as printed would reward its distance: a sign that trains without bound."""
    method = larvae("beta_vae")
    net, objective = made_pair(method, network_of(method))
    told = made_batch(method).also["label"]
    values = []
    for shift in (0.0, 3.0):
        with torch.no_grad():
            net.decoder.hidden[0].weight.zero_()  # an image does not depend on z: what is left is the KL
            net.encoder.out.weight.zero_()
            net.encoder.out.bias.zero_()[4] = shift
            q = net.eval().encode(told.image)
            values.append(objective.replacement(net, q, told, told.label))
    torch.testing.assert_close(values[1] - values[0], torch.full((6,), 4.5), rtol=0, atol=0.05)  # half of 3 squared


def test_replacement_trains_the_encoder_of_the_nuisance_and_the_decoder_not_the_means_of_u():
    method = larvae("beta_vae")
    net, objective = made_pair(method, network_of(method))
    told = made_batch(method).also["label"]
    q = net.encode(told.image)
    q.loc.retain_grad()
    objective.replacement(net, q, told, told.label).sum().backward()
    assert (q.loc.grad[:, :2] == 0).all()
    assert (q.loc.grad[:, 2:] != 0).any()
    assert net.decoder.hidden[0].weight.grad[:, :2].abs().max() > 0  # u's place in the decoder learns what the labels mean


@pytest.mark.parametrize("kind", ["l2", "cross_entropy"])
def test_the_replacement_s_gradient_is_that_of_finite_differences(kind):
    method = larvae("beta_vae", **({} if kind == "l2" else UNIT))
    net, objective = made_pair(method, network_of(method).model_copy(update={"u": 2, "v": 2}), size=(4, 4, 4))
    net.eval().double()
    told = made_batch(method, count=2, size=(4, 4, 4)).also["label"]
    told = told.each(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    noise = torch.randn(2, 4, dtype=torch.double)

    class Fixed(torch.distributions.Normal):
        def rsample(self, sample_shape=()):
            return self.loc + self.scale * noise

    net.decode = lambda z: net.decoder(z)  # without its step to float32

    def value(mean, log_scale):
        return objective.replacement(net, Fixed(mean, log_scale.exp()), told, told.label)

    mean, log_scale = (0.3 * torch.randn(2, 4, dtype=torch.double)).requires_grad_(), torch.zeros(2, 4, dtype=torch.double).requires_grad_()
    assert torch.autograd.gradcheck(value, (mean, log_scale), atol=1e-4)


@every_base
def test_unknown_labels_cost_nothing(base):
    for method in (semi(base, gamma_lb=20), larvae(base, gamma_lb=20, tau=3)):
        batch, network = made_batch(method), network_of(method)
        told = batch.also["label"]
        nothing = replace(batch, also=batch.also | {"label": replace(told, label=torch.full_like(told.label, float("nan")))})
        losses, net, objective = losses_of(method, nothing, network)
        plain, _, _ = losses_of(method.base, nothing, network)
        torch.testing.assert_close(losses.by_player["model"], plain.by_player["model"], rtol=0, atol=0)
        losses.by_player["model"].backward(inputs=objective.players(net)["model"])
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in net.parameters())


def test_an_image_with_an_unknown_label_is_not_replaced_and_pays_for_the_other_label():
    method = larvae("beta_vae", gamma_lb=20, tau=3)
    batch, network = made_batch(method), network_of(method)
    told = batch.also["label"]
    label = told.label.clone()
    label[2, 1] = float("nan")
    net, objective = made_pair(method, network)
    net.eval()
    q = net.encode(told.image)
    values = []
    for own in (told.label, label):
        torch.manual_seed(0)
        values.append(objective.replacement(net, q, told, own))
    assert values[1][2] == 0
    assert torch.equal(values[0][[0, 1, 3, 4, 5]], values[1][[0, 1, 3, 4, 5]])
    assert label_loss(q.loc[:, :2], label, "l2")[2] == (q.loc[2, 0] - label[2, 0]) ** 2


@every_base
def test_players_and_adam_are_the_base_s(base):
    for method in (semi(base), larvae(base)):
        net, objective = made_pair(method, network_of(method))
        plain = method.base.build(net, 4)
        assert list(objective.players(net)) == list(plain.players(net))
        assert objective.adam() == plain.adam()
        assert method.also == (*method.base.also, "label")
        assert all(f"kl_u_{k}" in objective(net, made_batch(method), 0).logs for k in range(2))


@every_base
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"label_loss": "cross_entropy"}, "cross_entropy needs labels.kind: unit, found zscore"),
        ({"labels": {"kind": "class", "bins": 5}}, "l2 needs labels.kind: zscore or unit, found class"),
        ({"label_loss": "cross_entropy", "labels": {"kind": "class", "bins": 2}}, "cross_entropy needs labels.kind: unit, found class"),
    ],
)
def test_labels_that_do_not_fit_the_loss_are_refused(base, settings, words):
    for make in (semi, larvae):
        with pytest.raises(ConfigError, match=words):
            make(base, **settings)


def test_u_has_one_latent_a_label():
    for make, base in itertools.product((semi, larvae), BASES):
        assert make(base).misfit(2, 3) == ""
        assert make(base, labels={"columns": ["fev1_pp"]}).misfit(1, 0) == ""
        assert make(base).misfit(1, 9) == "d(u) must be 2, one a label"


def test_a_study_without_the_labels_is_refused_before_training(tmp_path):
    cohort = made_cohort()
    for columns, words in ((["fev2", "fev1_fvc"], "fev2 not in the table"), (["fev1_pp", "empty"], "empty has 0 different values")):
        cohort.labels["empty"] = float("nan")
        config = run_config({"method": "ss_beta_vae", "labels": {"columns": columns}})
        with pytest.raises(ConfigError, match=words):
            Run(cohort, config, tmp_path, lambda line: None)


def test_the_mean_over_labelled_images_does_not_grow_with_their_number():
    method = semi("beta_vae", gamma_lb=20)
    batch = made_batch(method)
    net, objective = made_pair(method, network_of(method))
    net.eval()
    told = batch.also["label"]
    twice = replace(
        batch,
        also={
            "label": replace(told, image=told.image.repeat(2, 1, 1, 1, 1), present=told.present.repeat(2, 1), label=told.label.repeat(2, 1))
        },
    )
    torch.testing.assert_close(objective(net, twice, 0).logs["label_loss"], objective(net, batch, 0).logs["label_loss"])
