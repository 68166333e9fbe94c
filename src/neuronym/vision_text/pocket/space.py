"""The one space: how features of an image and a text's MiniLM vector become embeddings.

An embedding has three parts, one after the other, and the dot product of two embeddings is the
sum of the parts' fits:

1. objects (384): the image's posterior over the 1000 labels times the labels' vectors, against
   the text's whitened vector (ConSE, arXiv 1312.5650, with ancestors in the label vectors);
2. classes (1000): the posterior, against the distribution Q over labels that a small head reads
   from the text, divided by a power of what Q gives to an average photo;
3. attributes: a linear map of descriptors, against the attributes that the text says.

How far a text says a thing at all, and not only attributes, scales the first two parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from neuronym.vision_text.pocket.arrays import ImageArrays, TextArrays
from neuronym.vision_text.pocket.tower import ImageFeatures

__all__ = [
    "TINY_TEMPERATURE",
    "Mixture",
    "image_embeddings",
    "posterior",
    "read_words",
    "text_embeddings",
]

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

TINY_TEMPERATURE = 2.0
"""Divides the logits of tiny images, of which the classifier is too sure; others take 1."""
_CLIP = 6.0


@dataclass(frozen=True)
class Mixture:
    """Weights of the parts.

    Attributes:
        objects, classes, attributes: Weight of each part's dot product.
        tiny_objects, tiny_classes: Factors of these parts for tiny images, whose posterior is
            broad: its mean of label vectors says little, its fit to Q still much.
        prior_power: Power of ``P̄·Q`` that divides a text's class vector, in [0, 1].
        scale: Factor of the whole.
    """

    objects: float
    classes: float
    attributes: float
    tiny_objects: float
    tiny_classes: float
    prior_power: float
    scale: float

    @staticmethod
    def of(facts: Mapping[str, object]) -> Mixture:
        """Read the weights from the facts of an image file."""
        mixture = facts["mixture"]
        if not isinstance(mixture, Mapping):
            raise TypeError(f"mixture must be a mapping, not {mixture!r}")
        return Mixture(**{name: float(value) for name, value in mixture.items()})


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last dimension."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def posterior(logits: FloatArray, tiny: BoolArray, tiny_bias: FloatArray) -> FloatArray:
    """Return P, ``(images, 1000)``: the softmax of the logits, corrected for tiny images."""
    temperature = np.where(tiny, np.float32(TINY_TEMPERATURE), np.float32(1))[:, None]
    return softmax(logits / temperature + tiny[:, None] * tiny_bias)


def image_embeddings(
    features: ImageFeatures, image: ImageArrays, labels: FloatArray, mixture: Mixture
) -> FloatArray:
    """Embed images.

    Args:
        features: Of ``images`` images.
        image: The variant's arrays.
        labels: (1000, 384) label vectors.
        mixture: The weights of the parts.

    Returns:
        ``(images, 384 + 1000 + attributes)`` float32.
    """
    p = posterior(features.logits, features.tiny, image.tiny_bias)
    objects = p @ labels - image.object_mean
    objects /= np.linalg.norm(objects, axis=1, keepdims=True) + np.float32(1e-6)
    attributes = attribute_scores(features.descriptors, image)
    objects *= _tiny_factor(features.tiny, mixture.tiny_objects)
    classes = (p - image.posterior_mean) * _tiny_factor(features.tiny, mixture.tiny_classes)
    return np.concatenate(
        [
            objects * np.float32(mixture.objects),
            classes * np.float32(mixture.classes),
            attributes * np.float32(mixture.attributes),
        ],
        axis=1,
    )


def _tiny_factor(tiny: BoolArray, factor: float) -> FloatArray:
    """``(images, 1)``: the factor of tiny images, 1 for others."""
    factors: FloatArray = np.where(tiny, np.float32(factor), np.float32(1))[:, None]
    return factors


def attribute_scores(descriptors: FloatArray, image: ImageArrays) -> FloatArray:
    """Return how far each image has each attribute, about -0.2 to 1: ``(images, attributes)``."""
    standard = (descriptors - image.descriptor_mean) / image.descriptor_scale
    scores: FloatArray = np.clip(standard, -_CLIP, _CLIP) @ image.attribute_weights
    return scores


def text_embeddings(
    vectors: FloatArray, text: TextArrays, posterior_mean: FloatArray, mixture: Mixture
) -> FloatArray:
    """Embed texts.

    Args:
        vectors: ``(texts, 384)`` of MiniLM.
        text: The text side's arrays.
        posterior_mean: (1000,) of the variant.
        mixture: The weights of the parts.

    Returns:
        ``(texts, 384 + 1000 + attributes)`` float32.
    """
    white = (vectors - text.mean) @ text.whitening
    white /= np.linalg.norm(white, axis=1, keepdims=True) + np.float32(1e-6)
    hidden = gelu(vectors @ text.class_in + text.class_in_bias)
    q = softmax(hidden @ text.class_out + text.class_out_bias)
    q /= (q @ posterior_mean)[:, None] ** np.float32(mixture.prior_power)
    attributes, thing = read_words(vectors, text)
    whole: FloatArray = np.concatenate(
        [white * thing[:, None], q * thing[:, None], attributes], axis=1
    ).astype(np.float32)
    whole *= np.float32(mixture.scale)
    return whole


def read_words(vectors: FloatArray, text: TextArrays) -> tuple[FloatArray, FloatArray]:
    """Read which attributes texts say.

    Returns:
        ``(texts, attributes)``: probability of each value within its group, and ``(texts,)``, how
        far the text says a thing, in [0, 1]: a text that says no attribute says a thing.
    """
    hidden = gelu(vectors @ text.word_in + text.word_in_bias)
    logits = hidden @ text.word_out + text.word_out_bias
    parts, start = [], 0
    for values in text.groups.values():
        stop = start + len(values) + 1
        parts.append(softmax(logits[:, start:stop])[:, :-1])
        start = stop
    thing = 1 / (1 + np.exp(-np.clip(logits[:, start], -30, 30)))
    attributes = np.concatenate(parts, axis=1)
    thing += (1 - thing) * (1 - attributes.max(axis=1))
    return attributes, thing.astype(np.float32)


def gelu(x: FloatArray) -> FloatArray:
    """The exact GELU, x Φ(x)."""
    active: FloatArray = torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
    return active
