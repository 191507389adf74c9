import itertools
import math

import pytest
import torch
from gaussians import correlated_posteriors, rise, true_total_correlation
from torch.distributions import Normal

from copdvae.objectives.total_correlation import Critic, CriticConfig, log_weights, permute_parts, sampled_total_correlation

IMAGES = 60_000  # a set much larger than a batch


def posteriors(batch: int, latents: int, seed: int = 0) -> tuple[torch.Tensor, Normal]:
    """Any samples and posteriors, float64."""
    g = torch.Generator().manual_seed(seed)
    mean, z = torch.randn(2, batch, latents, generator=g, dtype=torch.double)
    return z, Normal(mean, 0.3 + torch.rand(batch, latents, generator=g, dtype=torch.double))


def mixture(z, q: Normal, weights, columns) -> float:
    """log sum_j w_j prod_d N(z_d; m_jd, s_jd^2) over some latents, written out."""
    total = 0.0
    for j, weight in enumerate(weights):
        density = 1.0
        for d in columns:
            m, s = float(q.loc[j, d]), float(q.scale[j, d])
            density *= math.exp(-((float(z[d]) - m) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))
        total += float(weight) * density
    return math.log(total)


def by_hand(z, q, weights, blocks) -> list[float]:
    every = [d for block in blocks for d in block]
    return [mixture(z[i], q, weights[i], every) - sum(mixture(z[i], q, weights[i], block) for block in blocks) for i in range(len(z))]


@pytest.mark.parametrize("latents", [1, 2, 3, 4])
@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_at_a_batch_of_all_images_it_is_the_exact_log_ratio(latents, sampling):
    z, q = posteriors(5, latents)
    found = sampled_total_correlation(z, q, 5, sampling)
    expected = by_hand(z, q, torch.full((5, 5), 1 / 5), [[d] for d in range(latents)])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.double))


def test_a_stratified_batch_weighs_itself_by_1_over_n_and_weighted_sampling_all_alike():
    z, q = posteriors(4, 3)
    weights = torch.full((4, 4), 99 / (100 * 3))
    weights.fill_diagonal_(1 / 100)
    torch.testing.assert_close(log_weights(4, 100, "stratified").exp(), weights.double())
    one_each = [[0], [1], [2]]
    for sampling, own in (("stratified", weights), ("weighted", torch.full((4, 4), 1 / 4))):
        expected = torch.tensor(by_hand(z, q, own, one_each), dtype=torch.double)
        torch.testing.assert_close(sampled_total_correlation(z, q, 100, sampling), expected)


@pytest.mark.parametrize(("batch", "images"), [(1, 1), (1, 50), (2, 2), (64, 60_000), (8, 5)])
@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_weights_are_a_distribution_over_the_batch(batch, images, sampling):
    weights = log_weights(batch, images, sampling).exp()
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(batch, dtype=torch.double))


def test_over_all_batches_of_6_images_the_stratified_density_is_that_of_all_six():
    """Every batch of 3 that holds image i, as often as any other: the mean of the estimated density is q(z_i), exactly."""
    z, q = posteriors(6, 2)
    density = q.loc.new_tensor([[math.exp(mixture(z[i], q, torch.eye(6)[j], [0, 1])) for j in range(6)] for i in range(6)])
    weights = log_weights(3, 6, "stratified").exp()
    for i in range(6):
        batches = [(i, *others) for others in itertools.combinations([j for j in range(6) if j != i], 2)]
        found = torch.stack([(weights[0] * density[i, list(batch)]).sum() for batch in batches])
        torch.testing.assert_close(found.mean(), density[i].mean())


def test_parts_of_several_latents_count_as_one():
    z, q = posteriors(4, 4)
    found = sampled_total_correlation(z, q, 4, "stratified", sizes=(3, 1))
    expected = torch.tensor(by_hand(z, q, torch.full((4, 4), 1 / 4), [[0, 1, 2], [3]]), dtype=torch.double)
    torch.testing.assert_close(found, expected)
    whole = sampled_total_correlation(z, q, 4, "stratified", sizes=(4,))
    torch.testing.assert_close(whole, torch.zeros(4, dtype=torch.double))  # one part is independent of nothing


@pytest.mark.parametrize("variance", [0.3, 0.7])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_three_gaussian_latents_have_their_known_total_correlation(variance, rho, sampling):
    g = torch.Generator().manual_seed(0)
    found = [float(sampled_total_correlation(*correlated_posteriors(512, 3, rho, variance, g), IMAGES, sampling).mean()) for _ in range(20)]
    assert sum(found) / 20 == pytest.approx(true_total_correlation(rho, variance), abs=0.1)


@pytest.mark.parametrize("batch", [64, 512])
def test_of_ten_latents_stratified_sampling_sees_a_rise_that_weighted_sampling_does_not(batch):
    """Both are biased; what a training step follows is the rise. The true one is .25."""
    count = 10_000 // batch
    assert 0.25 < rise("stratified", batch, IMAGES, count) < 0.35
    assert 0 < rise("weighted", batch, IMAGES, count) < 0.15


def test_the_critic_learns_the_known_total_correlation():
    """Two unit Gaussians with correlation .9: TC = -log(1 - .9^2) / 2 = .83."""
    torch.manual_seed(0)
    critic = Critic(CriticConfig(layers=2, width=64), 2)

    def draw(count):
        first, other = torch.randn(2, count)
        return torch.stack([first, 0.9 * first + math.sqrt(1 - 0.9**2) * other], dim=1)

    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    for _ in range(500):
        optimizer.zero_grad()
        critic.loss(draw(512), permute_parts(draw(512))).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(critic(draw(50_000)).mean()) == pytest.approx(0.83, abs=0.1)
        assert float(critic(permute_parts(draw(50_000))).mean()) < 0


def test_the_critic_s_loss_is_the_cross_entropy_of_its_two_logits_and_stays_with_it():
    torch.manual_seed(0)
    critic, z, other = Critic(CriticConfig(layers=1, width=8), 3), torch.randn(6, 3, requires_grad=True), torch.randn(4, 3)
    logits = [critic.logits(samples) for samples in (z, other)]
    halves = [torch.nn.functional.cross_entropy(own, torch.full((len(own),), side)) for side, own in enumerate(logits)]
    loss = critic.loss(z, other)
    torch.testing.assert_close(loss, sum(halves) / 2)
    torch.testing.assert_close(critic(z), logits[0].log_softmax(1)[:, 0] - logits[0].log_softmax(1)[:, 1])
    assert torch.autograd.grad(loss, z, allow_unused=True)[0] is None


@pytest.mark.parametrize("sizes", [None, (2, 1, 2)])
def test_permuted_parts_are_the_same_values_each_from_its_own_order(sizes):
    torch.manual_seed(0)
    z = torch.arange(100)[:, None] + torch.arange(5) / 10
    permuted = permute_parts(z, sizes)
    torch.testing.assert_close(permuted.sort(dim=0).values, z)
    rows = permuted.floor().long()
    parts = [[d] for d in range(5)] if sizes is None else [[0, 1], [2], [3, 4]]
    for part in parts:
        assert all(torch.equal(rows[:, part[0]], rows[:, d]) for d in part), "a part stays whole"
    firsts = [rows[:, part[0]] for part in parts]
    assert all((a == b).float().mean() < 0.1 for a, b in itertools.combinations(firsts, 2))


@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_gradients_are_those_of_finite_differences(sampling):
    z, q = posteriors(4, 3)
    noise = (z - q.loc) / q.scale

    def value(mean, log_scale):
        scale = log_scale.exp()
        return sampled_total_correlation(mean + scale * noise, Normal(mean, scale), 30, sampling)

    assert torch.autograd.gradcheck(value, (q.loc.clone().requires_grad_(), q.scale.log().requires_grad_()))


def test_a_critic_s_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    critic = Critic(CriticConfig(layers=2, width=8), 3).double()
    assert torch.autograd.gradcheck(critic, torch.randn(4, 3, dtype=torch.double, requires_grad=True))
    weights = tuple(critic.parameters())
    z, other = torch.randn(2, 4, 3, dtype=torch.double)

    def value(*own):
        return torch.func.functional_call(Loss(critic), dict(zip(names, own, strict=True)), (z, other))

    names = [f"critic.{name}" for name, _ in critic.named_parameters()]
    assert torch.autograd.gradcheck(value, weights)


class Loss(torch.nn.Module):
    def __init__(self, critic: Critic):
        super().__init__()
        self.critic = critic

    def forward(self, z, permuted):
        return self.critic.loss(z, permuted)


@pytest.mark.parametrize("spread", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_samples_far_apart_or_alike_have_finite_values_and_gradients(spread, sampling):
    mean = (spread * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
    found = sampled_total_correlation(mean + 0.0025, Normal(mean, torch.full_like(mean, 0.0025)), 1000, sampling)
    assert found.isfinite().all()
    assert torch.autograd.grad(found.sum(), mean)[0].isfinite().all()


def test_estimates_are_float32_under_bf16_autocast():
    critic = Critic(CriticConfig(layers=1, width=8), 3)
    z, q = (part.float() if isinstance(part, torch.Tensor) else Normal(part.loc.float(), part.scale.float()) for part in posteriors(6, 3))
    exact = sampled_total_correlation(z, q, 100, "stratified"), critic(z), critic.loss(z, z)
    with torch.autocast("cpu", torch.bfloat16):
        found = sampled_total_correlation(z, q, 100, "stratified"), critic(z), critic.loss(z, z)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs)
