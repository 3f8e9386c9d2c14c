"""Trains tokenizers: the same texts in the same order give the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from components.models._texts import texts_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING = "[PAD]"


def trained_tokenizer(samples: NDArray[np.uint8], *, vocab_size: int, lowercase: bool) -> Tokenizer:
    """Pairs of bytes merged by their count in texts uint8 [N, L].

    Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units" (ACL 2016), on bytes: no
    text is unknown. The library's trainer of WordPiece is no choice, since it numbers tokens anew in every process.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PADDING],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = texts_of(torch.from_numpy(np.ascontiguousarray(samples)))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
