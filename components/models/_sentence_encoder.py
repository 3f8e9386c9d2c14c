"""The network of the family sentence_encoder: a transformers checkpoint, pooled, and a trained head."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.contracts import DataSpec
from components.errors import BadInputError
from components.models._ngrams import mean_of_known
from components.models._texts import Memory
from components.models._tokens import Tokens, with_first

TOKENS_AT_ONCE = 512
"""As many texts of a length as make so many tokens, the last ones padded: last bits change with the number of texts."""
LENGTH_STEP = 8
"""Texts are brought to the next multiple of so many tokens, each its own, and not to the longest of a batch."""


class Core(nn.Module):
    """int64 [B, T] token ids -> logits [B, C]."""

    def __init__(self, encoder: nn.Module, *, pad_id: int, pooling: str, normalise: bool, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.embedding, self.head = encoder, nn.Identity(), head
        self.pad_id, self.pooling, self.normalise = pad_id, pooling, normalise

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(self.embed(ids)))
        return logits

    def embed(self, ids: Tensor) -> Tensor:
        """int64 [B, T] -> [B, D]."""
        known = ids != self.pad_id
        seen = with_first(known).to(torch.int64)
        states = self.encoder(input_ids=ids, attention_mask=seen).last_hidden_state
        pooled = states[:, 0] if self.pooling == "cls" else mean_of_known(states, known)
        return functional.normalize(pooled, dim=1) if self.normalise else pooled


class SentenceEncoder(nn.Module):
    """uint8 [B, L] -> logits [B, C]; all of it is trained. `contracts.Tokenized`."""

    def __init__(self, data: DataSpec, *, learned: Mapping[str, Any], hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.tokenizer: str = learned["tokenizer"]
        self.tokens = Tokens(self.tokenizer)
        encoder = encoder_of(learned["config"])
        layers: list[nn.Module] = []
        self.width: int = encoder.config.hidden_size
        width = self.width
        for out in hidden:
            layers += [nn.Linear(width, out), nn.ReLU(), nn.Dropout(dropout)]
            width = out
        self.core = Core(
            encoder,
            pad_id=self.tokens.pad_id,
            pooling=learned["pooling"],
            normalise=learned["normalise"],
            head=nn.Sequential(*layers, nn.Linear(width, data.num_classes)),
        )
        self.tap_points = {"embedding": "core.embedding"}

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.core(self.tokens(samples))
        return logits


class FrozenSentenceEncoder(SentenceEncoder):
    """The same with an encoder that never changes: each text is embedded once. `contracts.Remembers`."""

    def __init__(self, data: DataSpec, *, learned: Mapping[str, Any], hidden: Sequence[int], dropout: float) -> None:
        super().__init__(data, learned=learned, hidden=hidden, dropout=dropout)
        self.core.encoder.requires_grad_(requires_grad=False).eval()
        self.memory = Memory(self._embedded)
        self.register_load_state_dict_post_hook(lambda *_: self.memory.forget())

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.core.head(self.core.embedding(self.memory(samples)))
        return logits

    def remember(self, samples: Tensor) -> None:
        self.memory(samples)

    def afresh(self, samples: Tensor) -> Tensor:
        return super().forward(samples)

    def train(self, mode: bool = True) -> FrozenSentenceEncoder:
        super().train(mode)
        self.core.encoder.eval()
        return self

    def _embedded(self, samples: Tensor) -> Tensor:
        """uint8 [B, L] -> float32 [B, D], a text's the same among any others, whatever the precision around it."""
        ids = self.tokens(samples)
        num_steps = -(-(ids != self.tokens.pad_id).sum(dim=1) // LENGTH_STEP)
        lengths = num_steps.clamp(min=1) * LENGTH_STEP
        found = torch.empty((len(ids), self.width), device=ids.device)
        with torch.autocast(samples.device.type, enabled=False):
            for length in lengths.unique().tolist():
                at_once = max(1, TOKENS_AT_ONCE // length)
                for rows in (lengths == length).nonzero().flatten().split(at_once):
                    padded = torch.cat((rows, rows[-1:].expand(at_once - len(rows))))
                    found[rows] = self.core.embed(ids[padded, :length])[: len(rows)].float()
        return found


def transformers() -> Any:
    """The library, told never to ask the network for anything, and to keep its bars and advice to itself."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import transformers as library
    except ImportError as error:
        raise BadInputError("model 'sentence_encoder' needs the package 'transformers' (the extra: text)") from error
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def encoder_of(config: Mapping[str, Any]) -> Any:
    """An encoder as config.json describes it, with random weights."""
    library = transformers()
    described = {name: value for name, value in config.items() if name not in ("model_type", "architectures")}
    return library.AutoModel.from_config(library.AutoConfig.for_model(config["model_type"], **described))


def load_weights(encoder: nn.Module, folder: Path) -> None:
    """The checkpoint's weights into *encoder*; BadInputError where some are missing or of another shape."""
    library = transformers()
    loaded, info = library.AutoModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    # Checkpoints of sentence encoders often lack the pooler, which nothing here reads.
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing or info["mismatched_keys"]:
        raise BadInputError(f"{folder}: the weights do not fit config.json: {missing or info['mismatched_keys']}")
    found = loaded.state_dict()
    encoder.load_state_dict({name: found[name].float() for name in encoder.state_dict()})
