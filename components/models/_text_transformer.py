"""The network of the family text_transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.contracts import DataSpec
from components.models._ngrams import mean_of_known
from components.models._tokens import Tokens, with_first


class TextTransformer(nn.Module):
    """uint8 [B, L] -> logits [B, C]: a tokenizer, and a small transformer of its tokens. `contracts.Tokenized`."""

    def __init__(
        self, data: DataSpec, *, tokenizer: str, width: int, depth: int, heads: int, feed_forward: int, dropout: float
    ) -> None:
        super().__init__()
        self.tokenizer, self.tokens = tokenizer, Tokens(tokenizer)
        self.core = Core(
            self.tokens,
            width=width,
            depth=depth,
            heads=heads,
            feed_forward=feed_forward,
            dropout=dropout,
            num_classes=data.num_classes,
        )
        self.tap_points = {f"block{place}": f"core.blocks.{place}" for place in range(depth)}
        self.tap_points["embedding"] = "core.embedding"

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.core(self.tokens(samples))
        return logits


class Core(nn.Module):
    """int64 [B, T] token ids -> logits [B, C].

    Vaswani et al., "Attention is all you need" (NIPS 2017), normalised before each part (Xiong et al., ICML 2020).
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        width: int,
        depth: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.pad_id = tokens.pad_id
        self.vectors = nn.Embedding(tokens.tokenizer.get_vocab_size(), width)
        self.places = nn.Parameter(torch.empty(tokens.length, width))
        nn.init.normal_(self.vectors.weight, std=width**-0.5)
        nn.init.normal_(self.places, std=width**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, feed_forward, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.embedding = nn.Identity()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))

    def forward(self, ids: Tensor) -> Tensor:
        known = ids != self.pad_id
        states, seen = self.dropout(self.vectors(ids) + self.places), with_first(known)
        for block in self.blocks:
            states = block(states, seen)
        logits: Tensor = self.head(self.embedding(mean_of_known(self.norm(states), known)))
        return logits


class Block(nn.Module):
    """[B, T, D], bool [B, T] -> [B, T, D]: attention among the tokens that are there, then a layer for each."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.share_dropped = heads, dropout
        self.norm, self.project, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, feed_forward), nn.GELU(), nn.Linear(feed_forward, width), self.dropout
        )

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        states = states + self.dropout(self.out(self._attended(self.norm(states), seen)))
        changed: Tensor = states + self.layers(states)
        return changed

    def _attended(self, states: Tensor, seen: Tensor) -> Tensor:
        batch, length, width = states.shape
        parts = self.project(states).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=seen[:, None, None, :],
            dropout_p=self.share_dropped if self.training else 0.0,
        )
        return attended.transpose(1, 2).reshape(batch, length, width)
