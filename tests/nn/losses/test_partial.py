"""CSL, Hill, SPLC and large-loss: what each does with unknown labels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tasks.nn.losses import LOSSES
from tests.nn.losses.test_binary import one

LOGITS_NC = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 4.0, -0.5]])
TARGETS_NC = torch.tensor([[1, 0, 0], [0, 0, 1]])
KNOWN_NC = torch.tensor([[True, True, False], [False, False, True]])


def cost(loss, known_NC=KNOWN_NC):
    return loss(LOGITS_NC, TARGETS_NC, known_NC).item()


def nll(logit: float) -> float:
    """-log sigmoid(logit)."""
    return math.log1p(math.exp(-logit))


PLAIN = {"gamma_pos": 0.0, "gamma_neg": 0.0, "gamma_unknown": 0.0}


def test_ignore_leaves_unknown_labels_out():
    expected = nll(2.0) + nll(1.0) + nll(-0.5)  # present 2.0, absent -1.0, present -0.5
    assert cost(LOSSES["selective"](3, mode="ignore", **PLAIN)) == pytest.approx(expected, rel=1e-6)


def test_negative_makes_unknown_labels_pay_as_absent():
    expected = nll(2.0) + nll(1.0) + nll(-0.5) + nll(-0.5) + nll(3.0) + nll(-4.0)
    assert cost(LOSSES["selective"](3, mode="negative", **PLAIN)) == pytest.approx(expected, rel=1e-6)


def test_ignore_normalize_weights_each_image_by_how_little_is_known_of_it():
    # image 0: two known, weight 1 + 1/3; image 1: one known, weight 1 + 1/2
    expected = (nll(2.0) + nll(1.0)) * 4 / 3 + nll(-0.5) * 3 / 2
    assert cost(LOSSES["selective"](3, mode="ignore_normalize", **PLAIN)) == pytest.approx(expected, rel=1e-6)


def test_the_three_streams_have_their_own_exponents_and_weights():
    p = torch.sigmoid(LOGITS_NC)
    loss = LOSSES["selective"](3, mode="negative", gamma_pos=1.0, gamma_neg=2.0, gamma_unknown=3.0, alpha_unknown=0.5)
    present = (1 - p) * -p.log()
    absent = p**2 * -(1 - p).log()
    unknown = 0.5 * p**3 * -(1 - p).log()
    expected = present[0, 0] + absent[0, 1] + present[1, 2] + unknown[0, 2] + unknown[1, 0] + unknown[1, 1]
    assert cost(loss) == pytest.approx(expected.item(), rel=1e-5)


def csl(**options):
    """Past a warm-up in which label 1 was believed in on every image and the others on none."""
    loss = LOSSES["selective"](3, mode="selective", **PLAIN, **options)
    loss.start_epoch(0)
    warm_NC = torch.tensor([[-9.0, 9.0, -9.0]], requires_grad=True)
    loss(warm_NC, torch.zeros(1, 3), torch.zeros(1, 3))
    loss.start_epoch(1)
    return loss


def test_selective_ignores_unknown_labels_during_the_warm_up():
    loss = LOSSES["selective"](3, **PLAIN)
    loss.start_epoch(0)
    assert cost(loss) == pytest.approx(cost(LOSSES["selective"](3, mode="ignore", **PLAIN)))


def test_selective_trusts_absences_of_rare_labels_only():
    loss = csl(likelihood_topk=0)
    assert loss.prior_C.tolist() == pytest.approx([0, 1, 0], abs=2e-4)
    expected = nll(2.0) + nll(1.0) + nll(-0.5) + nll(-0.5) + nll(3.0)  # unknown (1, 1) is of the frequent label
    assert cost(loss) == pytest.approx(expected, rel=1e-6)


def test_selective_does_not_believe_the_absence_of_the_likeliest_entries():
    # one an image, two in all: unknown logits 4.0 and 0.5 go, -3.0 stays
    expected = nll(2.0) + nll(1.0) + nll(-0.5) + nll(3.0)
    assert cost(csl(likelihood_topk=1)) == pytest.approx(expected, rel=1e-6)


def test_selective_never_ignores_a_known_label():
    everything = torch.ones_like(KNOWN_NC)
    expected = F.binary_cross_entropy_with_logits(LOGITS_NC, TARGETS_NC.float(), reduction="sum").item()
    assert cost(csl(likelihood_topk=100), everything) == pytest.approx(expected, rel=1e-6)


def test_selective_resumes_with_the_priors_it_had():
    loss, resumed = csl(), LOSSES["selective"](3, **PLAIN)
    resumed.load_state_dict(loss.state_dict())
    resumed.start_epoch(1)
    assert torch.equal(resumed.prior_C, loss.prior_C)
    assert cost(resumed) == cost(loss)


def test_selective_counts_no_priors_while_evaluating():
    loss = LOSSES["selective"](3)
    loss.start_epoch(0)
    with torch.no_grad():
        cost(loss)
    assert loss.num_images == 0


def test_hill_is_its_formula_on_both_sides():
    p, p_m = torch.sigmoid(torch.tensor(0.7)).item(), torch.sigmoid(torch.tensor(-0.3)).item()
    assert one(LOSSES["hill"](1), 0.7, 0) == pytest.approx((1.5 - p) * p**2, rel=1e-6)
    assert one(LOSSES["hill"](1), 0.7, 1) == pytest.approx(-((1 - p_m) ** 2) * math.log(p_m), rel=1e-6)


def test_hill_pulls_less_on_a_confident_absence_than_on_a_doubtful_one():
    def gradient(logit):
        z = torch.tensor([[logit]], requires_grad=True)
        LOSSES["hill"](1)(z, torch.zeros(1, 1), torch.ones(1, 1)).backward()
        return z.grad.item()

    assert gradient(6.0) < gradient(1.0)


@pytest.mark.parametrize("name", ["hill", "splc"])
def test_unknown_labels_pay_as_absent_where_the_option_says_so(name):
    everything = torch.ones_like(KNOWN_NC)
    as_absent = LOSSES[name](3, unknown="negative")
    absent_NC = torch.where(KNOWN_NC, TARGETS_NC, 0)
    assert cost(as_absent) == pytest.approx(LOSSES[name](3)(LOGITS_NC, absent_NC, everything).item())
    assert cost(as_absent) > cost(LOSSES[name](3))


def test_splc_promotes_an_unknown_label_it_believes_in_from_the_second_epoch():
    loss = LOSSES["splc"](3)
    loss.start_epoch(0)
    first = cost(loss)
    loss.start_epoch(1)
    # of the unknown logits 0.5, -3.0, 4.0 those with sigmoid > 0.6, i.e. 0.5 and 4.0; not shifted
    promoted = sum((1 - 1 / (1 + math.exp(-z))) ** 2 * nll(z) for z in (0.5, 4.0))
    assert cost(loss) == pytest.approx(first + promoted, rel=1e-5)


def test_splc_never_promotes_a_known_absence():
    loss, everything = LOSSES["splc"](3), torch.ones_like(KNOWN_NC)
    loss.start_epoch(0)
    first = cost(loss, everything)
    loss.start_epoch(5)
    assert cost(loss, everything) == first


@pytest.mark.parametrize(("mode", "instead"), [("reject", 0.0), ("correct", nll(4.0))])
def test_large_loss_disbelieves_the_worst_unknown_entry(mode, instead):
    # epoch 1, 6 entries, 10 %: k = 1, the unknown entry with logit 4
    loss = LOSSES["large_loss"](3, mode=mode, delta_rel=10.0, reduction="sum")
    loss.start_epoch(0)
    first = cost(loss)
    loss.start_epoch(1)
    assert cost(loss) == pytest.approx(first - nll(-4.0) + instead, rel=1e-6)


def test_large_loss_never_touches_a_known_label():
    loss = LOSSES["large_loss"](3, delta_rel=50.0, reduction="sum")
    loss.start_epoch(2)  # every unknown entry may go
    assert cost(loss) == pytest.approx(nll(2.0) + nll(1.0) + nll(-0.5), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "selective",
            {"mode": "drop"},
            "mode 'drop' is unknown; use one of ignore, negative, selective, ignore_normalize",
        ),
        ("selective", {"warmup_epochs": 0}, "warmup_epochs must be at least 1"),
        ("hill", {"unknown": "drop"}, "unknown 'drop' is unknown; use one of ignore, negative"),
        ("large_loss", {"mode": "drop"}, "mode 'drop' is unknown; use one of reject, correct"),
    ],
)
def test_options_that_do_not_exist_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        LOSSES[name](3, **options)
