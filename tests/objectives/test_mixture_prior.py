import math

import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Categorical, Normal, kl_divergence

from copdvae.objectives.mixture_prior import MixturePrior, bhattacharyya, entropy, gumbel_softmax, kl_to_uniform, most_likely


def made(classes: int, dims: int) -> MixturePrior:
    torch.manual_seed(0)
    prior = MixturePrior(classes, dims).double()
    with torch.no_grad():
        prior.spread.normal_()
        prior.mean.normal_()
    return prior


def test_the_bhattacharyya_coefficient_is_the_integral_of_the_root_of_both_densities():
    mean, log_variance = torch.tensor([[0.3], [-1.0], [2.0]], dtype=torch.double), torch.tensor([[0.2], [-1.5], [1.0]], dtype=torch.double)
    found = bhattacharyya(mean, log_variance)
    for i in range(3):
        for j in range(3):
            p, q = (stats.norm(mean[k, 0].item(), math.exp(log_variance[k, 0].item() / 2)) for k in (i, j))
            area = integrate.quad(lambda x, p=p, q=q: math.sqrt(p.pdf(x) * q.pdf(x)), -12, 12, limit=200)[0]
            assert found[i, j].item() == pytest.approx(area, abs=1e-8)


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_the_coefficient_is_the_matrix_formula_of_a_1(dims):
    """With determinants and an inverse of whole covariances, one pair at a time."""
    prior = made(4, dims)
    found = bhattacharyya(prior.mean, prior.log_variance)
    total = 0.0
    for i in range(4):
        assert found[i, i].item() == pytest.approx(1)
        for j in range(4):
            first, second = (torch.diag(prior.log_variance[k].exp()) for k in (i, j))
            middle, apart = (first + second) / 2, prior.mean[i] - prior.mean[j]
            distance = apart @ middle.inverse() @ apart / 8 + 0.5 * (middle.det() / (first.det() * second.det()).sqrt()).log()
            torch.testing.assert_close(found[i, j], (-distance).exp())
            total += max((-distance).exp().item() - 0.15, 0) if i < j else 0
    assert prior.overlap(0.15).item() == pytest.approx(total, rel=1e-9)


def test_classes_far_apart_cost_nothing_and_alike_ones_all_but_the_tolerance_a_pair():
    prior = made(3, 1)
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([[-50.0], [0.0], [50.0]]))
    assert prior.overlap(0.0).item() < 1e-200
    with torch.no_grad():
        prior.mean.zero_()
        prior.spread.zero_()
    assert prior.overlap(0.2).item() == pytest.approx(3 * 0.8)


@pytest.mark.parametrize("dims", [1, 4])
def test_the_kl_to_the_prior_is_the_textbook_s_of_each_image_and_class(dims):
    prior = made(3, dims)
    q = Normal(torch.randn(5, 3, dims, dtype=torch.double), torch.rand(5, 3, dims, dtype=torch.double) + 0.1)
    found = prior.kl(q)
    for image in range(5):
        for i in range(3):
            own = Normal(q.loc[image, i], q.scale[image, i])
            torch.testing.assert_close(found[image, i], kl_divergence(own, Normal(prior.mean[i], prior.of_each().scale[i])).sum())


def test_log_variances_stay_within_minus_3_and_1_and_start_at_minus_1():
    prior = MixturePrior(2, 1)
    assert prior.log_variance.tolist() == [[-1], [-1]]
    with torch.no_grad():
        prior.spread.copy_(torch.tensor([[-100.0], [100.0]]))
    assert prior.log_variance.tolist() == [[-3], [1]]
    torch.testing.assert_close(prior.of_each().scale.log() * 2, prior.log_variance)


def test_means_start_apart_in_the_classes_order():
    assert MixturePrior(4, 2).mean[:, 0].tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert MixturePrior(5, 1).overlap(0.0).item() > 0  # and have somewhere to go


def test_entropies_and_the_kl_of_the_average_class_are_the_textbook_s():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    torch.testing.assert_close(entropy(logits), Categorical(logits=logits).entropy())
    average = Categorical(probs=logits.softmax(dim=1).mean(dim=0))
    torch.testing.assert_close(kl_to_uniform(logits), kl_divergence(average, Categorical(logits=torch.zeros(4, dtype=torch.double))))
    sure = 1e4 * torch.eye(4)
    assert kl_to_uniform(sure).item() == pytest.approx(0, abs=1e-6)  # every class as often, whatever each image is
    one = (1e4 * torch.eye(4)[[0, 0]]).requires_grad_()
    assert kl_to_uniform(one).item() == pytest.approx(math.log(4), rel=1e-6)
    (gradient,) = torch.autograd.grad(kl_to_uniform(one) + entropy(one).sum(), one)
    assert gradient.isfinite().all()


def test_a_relaxed_draw_is_nearly_one_class_as_often_as_the_class_is_likely():
    torch.manual_seed(0)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(40_000, 3)
    drawn = gumbel_softmax(logits, 0.67)
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(40_000))
    share = most_likely(drawn).mean(dim=0)  # the largest of a Gumbel draw is an exact draw, at any temperature
    assert share.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.01)
    sharp = gumbel_softmax(logits, 0.01).amax(dim=1)
    assert sharp.mean().item() > 0.98 > drawn.amax(dim=1).mean().item()
    assert most_likely(torch.tensor([[0.1, 3.0, 2.0]])).tolist() == [[0, 1, 0]]


def test_terms_of_classes_and_priors_have_the_gradients_of_finite_differences():
    logits = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    mean, log_variance = (torch.randn(3, 2, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(entropy, logits)
    assert torch.autograd.gradcheck(kl_to_uniform, logits)
    assert torch.autograd.gradcheck(bhattacharyya, (mean, log_variance))
