import pytest
import torch
from safetensors.torch import save_file
from tiny import NETWORK, made_batch, made_net, made_pair

from copdvae.checkpoint import load_checkpoint, save_checkpoint
from copdvae.errors import CopdvaeError
from copdvae.objectives.pairwise import PairwiseConfig


def trained(seed, steps=3):
    net, objective = made_pair(PairwiseConfig(), seed=seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(steps):
        torch.manual_seed(step)
        objective(net, made_batch(PairwiseConfig(), seed=step), step).by_player["model"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


def test_everything_comes_back_bit_for_bit(tmp_path):
    net, optimizer = trained(seed=0)
    save_checkpoint(tmp_path / "c.safetensors", {"net": net}, {"model": optimizer}, {"step": 3, "best": {"score": 0.1}})
    other, fresh = trained(seed=1, steps=1)
    facts = load_checkpoint(tmp_path / "c.safetensors", {"net": other}, {"model": fresh})
    assert facts == {"step": 3, "best": {"score": 0.1}}
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name  # running statistics of batch normalisation too
    ours, theirs = optimizer.state_dict()["state"], fresh.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n][slot], theirs[n][slot]) for n in ours for slot in ("exp_avg", "exp_avg_sq", "step"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.safetensors"], "no temporary file stays"


def test_the_same_state_is_the_same_bytes(tmp_path):
    for name in "ab":
        net, optimizer = trained(seed=0)
        save_checkpoint(tmp_path / name, {"net": net}, {"model": optimizer}, {"step": 3})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def damaged(path, how):
    content = path.read_bytes()
    if how == "half":
        path.write_bytes(content[: len(content) // 2])
    if how == "empty":
        path.write_bytes(b"")
    if how == "other":
        save_file({"a": torch.zeros(1)}, path)
    if how == "gone":
        path.unlink()


@pytest.mark.parametrize("how", ["half", "empty", "other", "gone"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path, how):
    net, optimizer = trained(seed=0, steps=1)
    save_checkpoint(tmp_path / "c.safetensors", {"net": net}, {"model": optimizer}, {"step": 1})
    damaged(tmp_path / "c.safetensors", how)
    with pytest.raises(CopdvaeError, match=r"c\.safetensors.*delete it"):
        load_checkpoint(tmp_path / "c.safetensors", {"net": net})


def test_another_network_s_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", {"net": made_net()}, {}, {})
    with pytest.raises(CopdvaeError, match="another network"):
        load_checkpoint(tmp_path / "c.safetensors", {"net": made_net(NETWORK.model_copy(update={"widths": (4, 4)}))})


def test_modules_whose_names_begin_alike_are_kept_apart(tmp_path):
    one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    save_checkpoint(tmp_path / "c", {"net": one, "net_2": two}, {}, {})
    load_checkpoint(tmp_path / "c", {"net": torch.nn.Linear(2, 2), "net_2": torch.nn.Linear(2, 3)})
