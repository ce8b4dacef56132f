from collections import Counter

import pytest
import torch

from tasks.training.data import StepPlan, training_batches
from tasks.training.semi.stream import UnlabelledStream, with_unlabelled
from tests.training import toy

LABELLED, UNLABELLED = toy.image_set(8), toy.image_set(5, seed=9)


def steps(name="barlow_twins", *, cursor=(0, 0), rank=0, processes=1, accumulate=1, augment=(), **options):
    method = toy.method(name, **options)
    method.attach(LABELLED, UNLABELLED)
    plan = StepPlan(8, batch_size=4, accumulate=accumulate, epochs=3, seed=1, num_processes=processes)
    loading = {"augment": list(augment), "cursor": cursor, "rank": rank}
    return list(
        with_unlabelled(training_batches(LABELLED, plan, **loading), method, LABELLED, UNLABELLED, plan, **loading)
    )


def test_every_pass_shows_every_image_once_in_a_new_order():
    stream = UnlabelledStream(5, per_step=3, seed=0)
    images = [draw.image for step in range(10) for draw in stream.draws(step)]
    passes = [images[i : i + 5] for i in range(0, 30, 5)]
    assert all(sorted(p) == [0, 1, 2, 3, 4] for p in passes)
    assert len({tuple(p) for p in passes}) > 1


def test_a_step_may_need_more_images_than_there_are():
    assert Counter(d.image for d in UnlabelledStream(2, per_step=6, seed=0).draws(4)) == {0: 3, 1: 3}


def test_the_stream_has_a_seed_of_its_own_and_no_other_state():
    stream = UnlabelledStream(50, per_step=8, seed=3)
    later = stream.draws(40)
    assert later == UnlabelledStream(50, per_step=8, seed=3).draws(40)
    assert later != UnlabelledStream(50, per_step=8, seed=4).draws(40)


@pytest.mark.parametrize(("ratio", "count"), [(3.0, 12), (0.5, 2), (0.01, 1)])
def test_the_ratio_is_unlabelled_images_to_one_labelled_of_the_batch_size(ratio, count):
    assert {len(step.unlabelled_rows) for step in steps(ratio=ratio)} == {count}


def test_the_labelled_images_are_those_of_a_plain_run():
    plan = StepPlan(8, batch_size=4, accumulate=1, epochs=3, seed=1)
    policy = [{"name": "rand_augment"}]
    plain = training_batches(LABELLED, plan, augment=policy)
    for ours, theirs in zip(steps(augment=policy), plain, strict=True):
        assert torch.equal(ours.batches[0].images_BCHW, theirs.batches[0].images_BCHW)
        assert ours.rows == theirs.rows


def test_views_stand_together_and_the_strong_view_of_a_labelled_image_is_on_top_of_what_the_loss_sees():
    flip = [{"name": "vflip", "p": 1.0}]
    for step in steps(ratio=0.5, strong=flip, augment=[{"name": "rand_augment", "p": 1.0}]):
        (batch,) = step.batches
        count = len(batch.targets_BC)
        extra = batch.extra.images_XCHW
        assert torch.equal(extra[:count], batch.images_BCHW.flip(2))
        weak, strong = extra[count : count + 2], extra[count + 2 :]
        assert torch.equal(strong, weak.flip(2))
        assert batch.extra.rows_U.tolist() == step.unlabelled_rows


def test_any_step_can_be_the_first():
    full, rest = steps(), steps(cursor=(1, 1))
    for ours, theirs in zip(rest, full[3:], strict=True):
        assert ours.unlabelled_rows == theirs.unlabelled_rows
        assert torch.equal(ours.batches[0].extra.images_XCHW, theirs.batches[0].extra.images_XCHW)


def test_processes_and_micro_batches_share_the_images_of_one_process():
    full = steps("sesemi", ratio=1.0)
    shares = [steps("sesemi", ratio=1.0, processes=2, accumulate=2, rank=rank) for rank in (0, 1)]
    for together, *apart in zip(full, *shares, strict=True):
        rows = [row for step in apart for batch in step.batches for row in batch.extra.rows_U.tolist()]
        assert sorted(rows) == sorted(together.unlabelled_rows)
        assert sum(len(b.extra.images_XCHW) for step in apart for b in step.batches) == 6 * len(rows)


def test_a_process_without_an_unlabelled_image_gets_an_empty_tensor():
    step = steps("sesemi", ratio=0.25, processes=2, rank=1)[0]
    assert step.batches[0].extra.images_XCHW.shape == (0, 3, 8, 8)


def test_before_its_first_epoch_a_method_is_silent():
    epochs = [step.epoch for step in steps("cap", warmup_epochs=2) if step.unlabelled_rows]
    assert set(epochs) == {2}
    assert all(batch.extra is None for s in steps("cap", warmup_epochs=2) if s.epoch < 2 for batch in s.batches)
