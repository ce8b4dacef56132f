from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.environment import loader_workers
from tasks.core.errors import ModelError, TableError
from tasks.training.augment import AUGMENTATIONS, Policy
from tasks.training.data import ImageSet, StepPlan, inference_batches, training_batches
from tests.training import toy


def plan(num_images=13, **changes):
    options = {"batch_size": 4, "accumulate": 1, "epochs": 2, "seed": 0, **changes}
    return StepPlan(num_images, **options)


def images_of(step):
    return [draw.image for micro_batch in step for draw in micro_batch]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.integers(0, 1000))
def test_each_epoch_draws_each_image_once_in_steps_of_nearly_one_size(num_images, batch_size, accumulate, seed):
    p = plan(num_images, batch_size=batch_size, accumulate=accumulate, seed=seed)
    for epoch in range(2):
        steps = [images_of(p.micro_batches(epoch, s)) for s in range(p.steps[epoch])]
        assert sorted(i for step in steps for i in step) == list(range(num_images))
        sizes = {len(step) for step in steps}
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


def test_the_last_partial_batch_is_spread_over_the_epoch():
    # 13 images in batches of at most 4: ceil(13 / 4) = 4 steps of 3, 3, 3 and 4, none of 1
    assert sorted(len(images_of(plan().micro_batches(0, s))) for s in range(4)) == [3, 3, 3, 4]


def test_epochs_differ_and_repeat_themselves_under_the_same_seed():
    orders = [[images_of(plan().micro_batches(e, s)) for s in range(4)] for e in (0, 1, 0)]
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]
    assert orders[0] != [images_of(plan(seed=1).micro_batches(0, s)) for s in range(4)]


@pytest.mark.parametrize(("accumulate", "num_processes"), [(2, 1), (1, 2), (2, 2)])
def test_micro_batches_and_processes_do_not_change_what_a_step_sees(accumulate, num_processes):
    full, shared = plan(40, batch_size=8), plan(40, batch_size=8, accumulate=accumulate, num_processes=num_processes)
    for step in range(5):
        assert images_of(full.micro_batches(0, step)) == images_of(shared.micro_batches(0, step))


def test_copies_are_drawn_as_often_as_requested_and_differ():
    copies = np.array([0, 1, 3])
    p = plan(3, batch_size=2, epochs=1, replicas=lambda epoch: copies)
    draws = [draw for s in range(2) for micro in p.micro_batches(0, s) for draw in micro]
    assert Counter(d.image for d in draws) == {1: 1, 2: 3}
    assert sorted(d.copy for d in draws if d.image == 2) == [0, 1, 2]


def test_an_epoch_without_images_is_refused():
    with pytest.raises(ModelError, match="epoch 1 has no images"):
        plan(3, replicas=lambda epoch: np.ones(3, int) * (epoch == 0))


def test_more_processes_than_images_in_a_step_are_refused():
    with pytest.raises(ModelError, match=r"2 images in 2 micro-batches cannot be shared by 2 processes"):
        plan(8, batch_size=2, accumulate=2, num_processes=2)


def test_a_cursor_continues_where_the_whole_run_would_be():
    images, p = toy.image_set(13), plan()
    full = list(training_batches(images, p, augment=[{"name": "rand_augment"}]))
    rest = list(training_batches(images, p, augment=[{"name": "rand_augment"}], cursor=(1, 2)))
    assert [step.number for step in rest] == [6, 7]
    for ours, theirs in zip(full[-2:], rest, strict=True):
        assert ours.rows == theirs.rows
        assert torch.equal(ours.batches[0].images_BCHW, theirs.batches[0].images_BCHW)


def test_processes_share_a_step_without_overlap():
    images = toy.image_set(13)
    full = list(training_batches(images, plan(), augment=[]))
    p = plan(num_processes=2)
    shares = [list(training_batches(images, p, augment=[], rank=rank)) for rank in (0, 1)]
    for step, a, b in zip(full, *shares, strict=True):
        assert a.rows == b.rows == step.rows
        assert a.num_known == step.num_known == step.batches[0].known_BC.sum()
        together = torch.cat([a.batches[0].images_BCHW, b.batches[0].images_BCHW])
        assert len(together) == len(step.rows)
        assert sorted(x.sum().item() for x in together) == sorted(x.sum().item() for x in step.batches[0].images_BCHW)


def test_a_batch_carries_the_labels_of_its_images():
    images = toy.image_set(13)
    for step in training_batches(images, plan(), augment=[]):
        (batch,) = step.batches
        assert np.array_equal(batch.targets_BC.numpy(), images.targets_NC[step.rows])
        assert np.array_equal(batch.known_BC.numpy(), images.known_NC[step.rows])
        assert torch.equal(batch.images_BCHW, torch.stack([images.image(i) for i in step.rows]))


def test_inference_batches_keep_the_order_and_the_partial_last_one():
    images = toy.image_set(7)
    batches = list(inference_batches(images, range(7), batch_size=3))
    assert [len(b) for b in batches] == [3, 3, 1]
    assert torch.equal(torch.cat(batches), torch.stack([images.image(i) for i in range(7)]))


def test_an_image_that_was_not_packed_is_named():
    reader = toy.ToyReader(3, 4, 4)
    with pytest.raises(TableError, match=r"1 of 2 images are missing, e\.g\. 'coco/9'\. Run `dvc repro shard`"):
        ImageSet(reader, ["toy/000", "coco/9"], (4, 4))


def test_labels_of_another_length_are_refused():
    reader = toy.ToyReader(3, 4, 4)
    with pytest.raises(TableError, match="2 rows for 3 images"):
        ImageSet(reader, reader.image_ids, (4, 4), "stretch", np.zeros((2, 5), np.uint8), np.ones((2, 5), bool))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "crop"])
def test_pixels_are_those_of_planar_images_byte_for_byte(name, resize):
    images = ImageSet(toy.ToyReader(4, 40, 56), [f"toy/{i:03d}" for i in range(4)], (24, 32), resize)
    policy = Policy([{"name": name}], image_px=images.image_px, resize=resize)
    for i in range(4):
        planar = torch.from_numpy(np.ascontiguousarray(images.reader[i].transpose(2, 0, 1)))
        of_planar, ours = (policy(image, torch.Generator().manual_seed(i)) for image in (planar, images.image(i)))
        assert torch.equal(ours, of_planar)


def test_pillow_gets_stored_images_as_they_lie_in_memory():
    assert toy.image_set(3).image(1).permute(1, 2, 0).is_contiguous()


def test_an_image_may_be_written_to_without_changing_the_stored_one():
    images = toy.image_set(3)
    images.image(1).zero_()
    assert images.image(1).any()


@pytest.mark.parametrize(("cores", "alone", "accelerated"), [(1, 0, 1), (2, 0, 1), (4, 2, 2), (32, 8, 8)])
def test_a_small_machine_has_a_loader_process_only_where_a_device_would_wait(monkeypatch, cores, alone, accelerated):
    monkeypatch.setenv("TAGWRIGHT_WORKERS", str(cores))
    assert (loader_workers(), loader_workers(accelerated=True)) == (alone, accelerated)
