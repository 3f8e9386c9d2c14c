"""The network of the family ngram_bag."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.contracts import DataSpec
from components.models._ngrams import Buckets
from components.models._texts import max_bytes


class NgramBag(nn.Module):
    """uint8 [B, L] -> logits [B, C]: the vectors of a text's hashed n-grams, added up and scaled, into a small network.

    Joulin et al., "Bag of tricks for efficient text classification" (EACL 2017), with layers behind. Their mean is
    taken over the square root of the number of n-grams: a text twice as long is not half as certain.
    """

    def __init__(
        self,
        data: DataSpec,
        *,
        num_buckets: int,
        width: int,
        hidden: Sequence[int],
        words: Sequence[int],
        characters: Sequence[int],
        max_words: int,
        ngram_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.prepare = Buckets(
            max_bytes(data, "ngram_bag"),
            num_buckets=num_buckets,
            max_words=max_words,
            words=words,
            characters=characters,
        )
        self.vectors = nn.EmbeddingBag(num_buckets, width, mode="sum", padding_idx=0)
        nn.init.normal_(self.vectors.weight, std=width**-0.5)
        with torch.no_grad():
            self.vectors.weight[0] = 0
        self.ngram_dropout = ngram_dropout
        self.embedding = nn.ReLU()
        layers: list[nn.Module] = []
        for out in hidden:
            layers += [nn.Linear(width, out), nn.ReLU()]
            width = out
        self.head = nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(width, data.num_classes))
        self.bias = nn.Parameter(torch.zeros(self.vectors.embedding_dim))
        self.tap_points = {"embedding": "embedding"}

    def forward(self, samples: Tensor) -> Tensor:
        buckets = self.prepare(samples)
        if self.training and self.ngram_dropout:
            kept = torch.rand(buckets.shape, device=buckets.device) >= self.ngram_dropout
            buckets = buckets * kept
        count = (buckets > 0).sum(dim=1, keepdim=True).clamp(min=1)
        bag = self.vectors(buckets) * count.to(self.bias.dtype).rsqrt()
        logits: Tensor = self.head(self.embedding(bag + self.bias))
        return logits
