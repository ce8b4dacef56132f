import pytest
import torch

from tasks.training.data import Batch, Extra, Step
from tasks.training.distributed import World
from tasks.training.semi.barlow_twins import BarlowTwins, cross_correlation_cost
from tests.training import toy

EYE = torch.eye(4)


def method(**options) -> BarlowTwins:
    """An untrained projector that leaves four features as they are."""
    made = BarlowTwins(4, projection_dim=4, **options)
    with torch.no_grad():
        made.projector.weight.copy_(EYE)
        made.projector.bias.zero_()
    return made


def cost_of(made: BarlowTwins, outputs) -> float:
    return made.cost(outputs, batch=None, loss=None, world=World()).item()


def test_the_cost_of_a_correlation_matrix_by_hand():
    correlation = torch.tensor([[0.5, 0.2], [-0.4, 1.0]])
    # diagonal: 0.25 + 0; outside: 0.04 + 0.16 = 0.2, times 1/128; both over two dimensions
    expected = (0.25 + 0.2 / 128) / 2
    assert float(cross_correlation_cost(correlation, off_diagonal=1 / 128)) == pytest.approx(expected)


def test_uncorrelated_dimensions_that_agree_between_the_views_cost_nothing():
    patterns = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])  # orthogonal, mean 0
    made = BarlowTwins(3, projection_dim=3)
    with torch.no_grad():
        made.projector.weight.copy_(torch.eye(3))
    features = torch.cat([patterns, 5 * patterns + 2])  # scale and shift are standardised away
    outputs = made.outputs(None, features, num_labelled=4)
    assert cost_of(made, outputs) == pytest.approx(0, abs=1e-4)


def test_views_that_contradict_each_other_cost_four_a_dimension():
    made = method()
    x = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    outputs = made.outputs(None, torch.cat([x, -x]), num_labelled=2)
    # every entry of the matrix is -1: (4 * 4 + 12 * 1 / 128) / 4, times two pairs
    assert cost_of(made, outputs) == pytest.approx(2 * (16 + 12 / 128) / 4, rel=1e-3)


def test_labelled_and_unlabelled_pairs_are_put_together():
    made = method()
    labelled_weak, labelled_strong, weak, strong = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(0))
    outputs = made.outputs(None, torch.cat([labelled_weak, labelled_strong, weak, strong]), num_labelled=3)
    expected = [made.standardise(torch.cat(views)) for views in ((labelled_weak, weak), (labelled_strong, strong))]
    torch.testing.assert_close(outputs, torch.stack(expected))
    step = Step(0, 0, [], rows=[0, 1, 2], num_known=9, unlabelled_rows=[4, 5, 6])
    assert made.expected(step, loss=None) == 6


def test_the_first_step_goes_without_and_later_ones_weigh_a_tenth_of_the_supervised_loss():
    made = method()
    assert float(made.factor()) == 0
    made.observe(torch.tensor(2.0), torch.tensor(50.0))
    # means 0.3 * 2 and 0.3 * 50: 0.1 * 0.6 / 15 = 0.004; the term's value is 0.004 * 50 = 0.1 * 2
    assert float(made.factor()) == pytest.approx(0.004)
    made.observe(torch.tensor(4.0), torch.tensor(10.0))
    # 0.7 * 0.6 + 0.3 * 4 = 1.62 and 0.7 * 15 + 0.3 * 10 = 13.5
    assert float(made.factor()) == pytest.approx(0.1 * 1.62 / 13.5)


def test_the_strong_view_stands_on_top_of_the_weak_one():
    made = method(strong=[{"name": "vflip", "p": 1.0}])
    made.attach(toy.image_set(), toy.image_set())
    weak = torch.arange(192, dtype=torch.uint8).view(3, 8, 8)
    assert torch.equal(made.further_views(weak, torch.Generator())[0], weak.flip(1))
    first, second = made.views(weak, torch.Generator())
    assert torch.equal(first, weak)
    assert torch.equal(second, weak.flip(1))


def test_only_the_weak_view_of_a_labelled_image_is_classified():
    from tasks.training.semi.base import Assisted

    tagger, made = toy.tagger(norm="none"), BarlowTwins(4, projection_dim=8)
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    extra = Extra(torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8), torch.tensor([0, 1, 2]))
    logits, outputs = Assisted(tagger, made)(images, extra.images_XCHW)
    torch.testing.assert_close(logits, tagger(images))
    assert outputs.shape == (2, 5, 8)
    batch = Batch(images, torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), extra)
    assert batch.to(torch.device("cpu"), torch.contiguous_format).extra.rows_U is extra.rows_U
