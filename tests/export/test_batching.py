from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from tasks.export.batching import MicroBatcher


def pixels(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


def score(images_BHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first pixel of each image, as its only score."""
    scores_BC = images_BHWC[:, 0, 0, :1].astype(np.float32)
    return scores_BC, scores_BC > 0


def test_everyone_gets_the_scores_of_his_own_image_in_batches_of_at_most_max_batch():
    sizes = []

    def counting(images_BHWC):
        sizes.append(len(images_BHWC))
        return score(images_BHWC)

    async def main():
        async with MicroBatcher(counting, max_batch=8) as batcher:
            return await asyncio.gather(*(batcher(pixels(i)) for i in range(50)))

    rows = asyncio.run(main())
    assert [float(scores_C[0]) for scores_C, _ in rows] == list(range(50))
    assert sum(sizes) == 50
    assert max(sizes) == 8
    assert len(sizes) == 7


def test_a_failing_batch_tells_everyone_in_it_and_the_next_one_works():
    def picky(images_BHWC):
        if (images_BHWC == 13).any():
            raise RuntimeError("thirteen")
        return score(images_BHWC)

    async def main():
        async with MicroBatcher(picky, max_batch=2) as batcher:
            bad = await asyncio.gather(batcher(pixels(13)), batcher(pixels(1)), return_exceptions=True)
            return bad, await batcher(pixels(2))

    bad, good = asyncio.run(main())
    assert [str(error) for error in bad] == ["thirteen", "thirteen"]
    assert good[0] == 2


def test_leaving_scores_what_still_waits():
    release = threading.Event()

    def slow(images_BHWC):
        release.wait(10)
        return score(images_BHWC)

    async def main():
        async with MicroBatcher(slow, max_batch=1) as batcher:
            waiting = [asyncio.ensure_future(batcher(pixels(i))) for i in range(3)]
            await asyncio.sleep(0.01)
            release.set()
        return [float((await item)[0][0]) for item in waiting]

    assert asyncio.run(main()) == [0, 1, 2]


def test_someone_who_hangs_up_does_not_disturb_the_batch():
    async def main():
        async with MicroBatcher(score, max_wait_s=0.05) as batcher:
            gone, stays = (asyncio.ensure_future(batcher(pixels(i))) for i in (1, 2))
            await asyncio.sleep(0.01)
            gone.cancel()
            scores_C, _ = await stays
            with pytest.raises(asyncio.CancelledError):
                await gone
            return batcher.num_images, float(scores_C[0])

    assert asyncio.run(main()) == (1, 2.0)
