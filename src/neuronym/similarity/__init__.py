"""Similarities of units and concepts: ``(activations N×K, concept_scores N×M) → K×M``."""

from neuronym.similarity.auroc import auroc
from neuronym.similarity.common import top_images
from neuronym.similarity.cosine import cosine, cosine_cubed
from neuronym.similarity.from_top import (
    EmbeddingTable,
    HeldEmbeddings,
    TopImages,
    rank_from_top,
)
from neuronym.similarity.jensen_shannon import jensen_shannon
from neuronym.similarity.moments import (
    ImageSums,
    UnitSums,
    cosine_from_moments,
    rank_from_moments,
)
from neuronym.similarity.rank_reorder import rank_reorder
from neuronym.similarity.ranking import Ranking
from neuronym.similarity.registry import (
    SIMILARITIES,
    Similarity,
    checked_keywords,
    keywords_of,
    resolve,
)
from neuronym.similarity.streaming import DotProducts, rank_concepts
from neuronym.similarity.wpmi import soft_wpmi, wpmi

__all__ = [
    "SIMILARITIES",
    "DotProducts",
    "EmbeddingTable",
    "HeldEmbeddings",
    "ImageSums",
    "Ranking",
    "Similarity",
    "TopImages",
    "UnitSums",
    "auroc",
    "checked_keywords",
    "cosine",
    "cosine_cubed",
    "cosine_from_moments",
    "jensen_shannon",
    "keywords_of",
    "rank_concepts",
    "rank_from_moments",
    "rank_from_top",
    "rank_reorder",
    "resolve",
    "soft_wpmi",
    "top_images",
    "wpmi",
]
