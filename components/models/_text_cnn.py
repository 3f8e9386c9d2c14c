"""The network of the family text_cnn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.contracts import DataSpec
from components.models._ngrams import Words, mean_of_known
from components.models._texts import max_bytes

NUM_BYTES = 256


class HashedWords(nn.Module):
    """uint8 [B, L] -> int64 [B, max_words] in 1..*num_buckets* - 1; 0 behind the text."""

    def __init__(self, max_bytes: int, *, max_words: int, num_buckets: int) -> None:
        super().__init__()
        self.words, self.num_buckets = Words(max_bytes, max_words), num_buckets

    def forward(self, samples: Tensor) -> Tensor:
        hashes = self.words(samples)
        return torch.where(hashes > 0, hashes % (self.num_buckets - 1) + 1, 0)


class Bytes(nn.Module):
    """uint8 [B, L] -> int64 [B, L]; 0 behind the text."""

    def forward(self, samples: Tensor) -> Tensor:
        return samples.to(torch.int64)


class TextCNN(nn.Module):
    """uint8 [B, L] -> logits [B, C]: convolutions of several sizes over words or bytes, pooled over the text.

    Kim, "Convolutional neural networks for sentence classification" (EMNLP 2014).
    """

    def __init__(
        self,
        data: DataSpec,
        *,
        reads: str,
        num_buckets: int,
        max_words: int,
        width: int,
        filters: int,
        sizes: Sequence[int],
        pooling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        length = max_bytes(data, "text_cnn")
        hashed = HashedWords(length, max_words=max_words, num_buckets=num_buckets)
        self.prepare: nn.Module = hashed if reads == "words" else Bytes()
        self.vectors = nn.Embedding(num_buckets if reads == "words" else NUM_BYTES, width, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, size, padding=size // 2) for size in sizes)
        self.pooling = pooling
        self.embedding = nn.ReLU()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(filters * len(sizes), data.num_classes))
        self.tap_points = {"embedding": "embedding"}

    def forward(self, samples: Tensor) -> Tensor:
        tokens = self.prepare(samples)
        vectors, known = self.vectors(tokens).transpose(1, 2), tokens > 0
        maps = [convolution(vectors)[:, :, : tokens.shape[1]] for convolution in self.convolutions]
        pooled = torch.cat([self._pooled(each.transpose(1, 2), known) for each in maps], dim=1)
        logits: Tensor = self.head(self.embedding(pooled))
        return logits

    def _pooled(self, maps: Tensor, known: Tensor) -> Tensor:
        """[B, T, D] -> [B, D], over the text alone."""
        if self.pooling == "mean":
            return mean_of_known(torch.relu(maps), known)
        # No value below 0 passes the activation that follows, so that 0 stands for what is not there.
        return torch.where(known.unsqueeze(2), maps, 0).amax(dim=1)
