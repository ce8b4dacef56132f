import numpy as np
import torch

from tasks.training.inference import infer
from tests.training import toy

CPU = torch.device("cpu")


def test_scores_follow_the_order_of_the_images_whatever_the_batch():
    model, images = toy.tagger(), toy.image_set(7)
    full = infer(model, images, batch_size=7, device=CPU).scores_NC
    assert full.shape == (7, 3)
    assert full.dtype == np.float32
    np.testing.assert_allclose(infer(model, images, batch_size=3, device=CPU).scores_NC, full, atol=1e-6)
    model.eval()
    one = torch.sigmoid(model(images.image(4)[None])).detach().numpy()
    np.testing.assert_allclose(full[4:5], one, atol=1e-6)


def test_embeddings_come_along_when_asked_for():
    model, images = toy.tagger(width=5), toy.image_set(7)
    assert infer(model, images, batch_size=3, device=CPU).embeddings_ND is None
    assert infer(model, images, batch_size=3, device=CPU, with_embeddings=True).embeddings_ND.shape == (7, 5)


def test_the_mode_of_the_model_and_its_statistics_stay():
    model = toy.tagger().train()
    before = model.norm.running_mean.clone()
    infer(model, toy.image_set(7), batch_size=3, device=CPU)
    assert model.training
    assert torch.equal(model.norm.running_mean, before)


def test_half_precision_scores_are_close_and_single_precision():
    model, images = toy.tagger(), toy.image_set(7)
    full = infer(model, images, batch_size=7, device=CPU).scores_NC
    half = infer(model, images, batch_size=7, device=CPU, precision="bf16").scores_NC
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=0.02)
