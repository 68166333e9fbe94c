"""Reduced decoding of large real photos changes models by no more than the docs say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuronym import models, probes, vision_text
from probes_pictures import encoded

PHOTOS = 4


@pytest.mark.shared_data
def test_models_hardly_see_that_a_photo_was_reduced(shared_data: Path, tmp_path: Path) -> None:
    source = probes.load(shared_data / "imagenet-photos.parquet")
    for index in range(PHOTOS):
        photo = source.image(index)
        large = photo.resize((photo.width * 4, photo.height * 4), Image.Resampling.BICUBIC)
        (tmp_path / f"{index}.jpg").write_bytes(encoded(large, "JPEG", quality=92))
    model, pocket = models.load("pocket:efficientnet_lite0"), vision_text.load("pocket")
    side = probes.reduced_side(
        models.resize_side(model.transform), vision_text.resize_side_of(pocket)
    )
    assert side == 512
    held = probes.load(tmp_path)
    full = next(probes.batches(held, workers=0)).images
    small = next(probes.batches(held, workers=0, at_least=side)).images
    assert all(a.width >= 2 * b.width - 1 for a, b in zip(full, small, strict=True))
    vectors = [pocket.embed_images(images) for images in (full, small)]
    with torch.no_grad():
        pooled = [
            model.module.forward_features(torch.stack([model.transform(image) for image in images]))
            .mean((2, 3))
            .numpy()
            for images in (full, small)
        ]
    norms = [np.linalg.norm(rows, axis=1) for rows in vectors]
    assert ((vectors[0] * vectors[1]).sum(1) / (norms[0] * norms[1])).min() > 0.98
    assert np.corrcoef(pooled[0].ravel(), pooled[1].ravel())[0, 1] > 0.998
