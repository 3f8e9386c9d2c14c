"""Facts about the models of texts: sizes by hand, what they refuse, what they remember, and their tokenizers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from components.contracts import DataSpec, ModelParams, Remembers, Tokenized
from components.errors import BadInputError
from components.models import ngram_bag, sentence_encoder, text_cnn, text_transformer
from components.models._texts import Memory, texts_of
from components.models._tokens import Tokens
from components.training.reproducible import initialised

LENGTH = 48
SPEC = DataSpec((LENGTH,), tuple("abc"), (0.1,) * LENGTH, (0.1,) * LENGTH, num_train=4)
BANKING = DataSpec((256,), tuple(str(label) for label in range(77)), (0.1,) * 256, (0.1,) * 256, num_train=9003)
TEXTS = ("lost my card", "Lost cash?", "", "a b c " * 6, "où est ma carte", "9" * LENGTH)


def stored(*texts: str, length: int = LENGTH) -> torch.Tensor:
    samples = np.zeros((len(texts), length), dtype=np.uint8)
    for row, text in enumerate(texts):
        content = text.encode()[:length]
        samples[row, : len(content)] = np.frombuffer(content, dtype=np.uint8)
    return torch.from_numpy(samples)


def built(params: ModelParams, *texts: str, seed: int = 0) -> torch.nn.Module:
    learned = params.learn(stored(*(texts or TEXTS)).numpy())
    return initialised(params, replace(SPEC, learned=learned), seed=seed).eval()


def size(params: ModelParams, spec: DataSpec) -> int:
    return sum(weight.numel() for weight in params.build(spec).parameters())


def test_ngram_bag_by_hand() -> None:
    """4096 * 16 + 16 + 16 * 77 + 77 = 66,861; with a layer of 8 between: 16 * 8 + 8 more, and 8 * 77 instead."""
    assert size(ngram_bag.Params(), BANKING) == 66_861
    assert size(ngram_bag.Params(hidden=(8,)), BANKING) == 4096 * 16 + 16 + 16 * 8 + 8 + 8 * 77 + 77


def test_text_cnn_by_hand() -> None:
    """Vectors 10 * 4, filters (1 * 4 + 1) * 5 and (3 * 4 + 1) * 5, then 10 * 3 + 3; bytes have 256 vectors."""
    params = text_cnn.Params(num_buckets=10, width=4, filters=5, sizes=(1, 3))

    assert size(params, SPEC) == 40 + 25 + 65 + 33
    assert size(params.model_copy(update={"reads": "bytes"}), SPEC) == 1024 + 25 + 65 + 33


@pytest.mark.parametrize("params", [ngram_bag.Params(), text_cnn.Params(), text_cnn.Params(pooling="mean")])
def test_zeros_behind_a_text_do_not_count(params: ModelParams) -> None:
    """A longer max_bytes gives the same answer with the same weights."""
    short = built(params)
    long = initialised(params, replace(SPEC, sample_shape=(2 * LENGTH,)), seed=0).eval()
    long.load_state_dict(short.state_dict())

    torch.testing.assert_close(long(stored(*TEXTS, length=2 * LENGTH)), short(stored(*TEXTS)))


@pytest.mark.parametrize("params", [ngram_bag.Params(), text_cnn.Params(), text_cnn.Params(reads="bytes")])
def test_the_empty_text_has_an_answer(params: ModelParams) -> None:
    """What is learnt without any word."""
    assert built(params)(stored("")).isfinite().all()


def test_dropped_ngrams_are_dropped_in_training_alone() -> None:
    """Two passes in training differ, two in evaluation do not."""
    module = built(ngram_bag.Params(ngram_dropout=0.5))
    samples = stored(*TEXTS)

    assert torch.equal(module(samples), module(samples))
    module.train()
    assert not torch.equal(module(samples), module(samples))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (ngram_bag.Params, {"words": (), "characters": ()}),
        (ngram_bag.Params, {"words": (3,)}),
        (text_cnn.Params, {"sizes": ()}),
        (text_transformer.Params, {"width": 30, "heads": 4}),
        (sentence_encoder.Params, {}),
        (sentence_encoder.Params, {"folder": "a", "package": "b"}),
    ],
)
def test_params_have_bounds(kind: type[ModelParams], wrong: dict[str, object]) -> None:
    """What cannot be built is refused at load."""
    with pytest.raises(ValidationError):
        kind.model_validate(wrong)


def test_a_trained_tokenizer_merges_what_is_frequent() -> None:
    """'card' becomes one token where it is everywhere; every text has the same number of tokens, any bytes included."""
    module = built(text_transformer.Params(vocab_size=300, max_tokens=12), *["card card"] * 50)
    assert isinstance(module, Tokenized)
    ids = module.tokens(stored("card", "CARD", "où", "x" * 40))

    assert ids.shape == (4, 12)
    assert (ids[0] != 0).sum() == 1
    assert torch.equal(ids[0], ids[1])
    assert (ids[3] != 0).all()


def test_a_tokenizer_is_the_same_in_every_process() -> None:
    """The library counts in threads; what it finds must not depend on them."""
    code = (
        "import numpy as np, hashlib\nfrom components.models.text_transformer import Params\n"
        "draw = np.random.default_rng(0).integers(97, 123, (400, 40), dtype=np.uint8)\n"
        "print(hashlib.sha256(Params(vocab_size=800).learn(draw)['tokenizer'].encode()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "abc"
    }

    assert len(digests) == 1


def test_a_tokenizer_can_be_loaded(checkpoint: Path) -> None:
    """Its content is a fact of the key, and where it lies is not."""
    params = text_transformer.Params(tokenizer_file=checkpoint / "tokenizer.json")
    module = built(params)

    assert isinstance(module, Tokenized)
    assert module.tokens(stored("card"))[0, :4].tolist() == [2, 4, 3, 0]
    assert params.files() == {"tokenizer.json": checkpoint / "tokenizer.json"}
    assert params.located == {"tokenizer_file"}
    with pytest.raises(BadInputError, match="does not exist"):
        text_transformer.Params(tokenizer_file=Path("nowhere.json")).learn(stored("a").numpy())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not the JSON of a tokenizer"),
        ('{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}', "fixed length"),
    ],
)
def test_what_is_no_tokenizer_is_refused(text: str, why: str) -> None:
    """No JSON, or one that fills nothing up."""
    with pytest.raises(BadInputError, match=why):
        Tokens(text)


def test_nothing_learnt_is_said() -> None:
    """A model that needs a tokenizer is not built without one."""
    with pytest.raises(BadInputError, match="learn"):
        text_transformer.Params().build(SPEC)


def test_bytes_that_are_no_text_get_tokens_all_the_same() -> None:
    """A random sample must not break the comparison of an export."""
    assert texts_of(torch.tensor([[104, 255, 0, 0]], dtype=torch.uint8)) == ["h\ufffd"]


def test_memory_computes_once() -> None:
    """Each distinct sample, whatever the batch and however often it comes."""
    asked: list[int] = []

    def compute(samples: torch.Tensor) -> torch.Tensor:
        asked.extend(samples[:, 0].tolist())
        return samples.float() * 2

    memory, samples = Memory(compute), torch.arange(6, dtype=torch.uint8).view(6, 1)
    with torch.inference_mode():
        first = memory(samples[[0, 1, 1, 0]])
    again = memory(samples[[1, 2, 3, 0]])

    assert first[:, 0].tolist() == [0, 2, 2, 0]
    assert again[:, 0].tolist() == [2, 4, 6, 0]
    assert sorted(asked) == [0, 1, 2, 3]
    assert not again.is_inference()
    assert len(memory) == 4
    memory.forget()
    assert memory(samples[:1]).tolist() == [[0.0]]
    assert len(memory) == 1


def test_memory_is_bounded() -> None:
    """What there is no room for is computed again, and right."""
    memory = Memory(lambda samples: samples.float(), limit_bytes=8)
    samples = torch.arange(6, dtype=torch.uint8).view(6, 1)

    assert memory(samples[:2]).flatten().tolist() == [0, 1]
    assert memory(samples[[3, 1, 3, 0]]).flatten().tolist() == [3, 1, 3, 0]
    assert len(memory) == 2


def frozen(checkpoint: Path, **params: object) -> torch.nn.Module:
    return built(sentence_encoder.Params.model_validate({"folder": checkpoint, "hidden": (8,), **params}))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_embeddings_are_those_of_transformers(checkpoint: Path, pooling: str, *, normalise: bool) -> None:
    """Pooled by hand from one text at a time."""
    from transformers import AutoModel

    module = frozen(checkpoint, pooling=pooling, normalise=normalise)
    encoder = AutoModel.from_pretrained(checkpoint, local_files_only=True).eval()
    for text in TEXTS:
        ids = module.tokens(stored(text))
        ids = ids[:, : int((ids != 0).sum())]
        with torch.no_grad():
            states = encoder(input_ids=ids).last_hidden_state
        wanted = states[:, 0] if pooling == "cls" else states.mean(dim=1)
        wanted = torch.nn.functional.normalize(wanted) if normalise else wanted
        torch.testing.assert_close(module.memory(stored(text)), wanted, atol=2e-6, rtol=1e-5)


def test_an_embedding_does_not_depend_on_the_batch(checkpoint: Path) -> None:
    """The same bits alone, among others and under bf16."""
    alone = torch.cat([frozen(checkpoint).memory(stored(text)) for text in TEXTS])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = frozen(checkpoint).memory(stored(*TEXTS))

    assert torch.equal(frozen(checkpoint).memory(stored(*reversed(TEXTS))).flip(0), alone)
    assert torch.equal(half, alone)


def test_frozen_weights_stay_and_are_embedded_once(checkpoint: Path) -> None:
    """Only the head learns; the encoder is in eval mode whatever the rest is in; new weights forget what was said."""
    module = frozen(checkpoint).train()
    assert isinstance(module, Remembers)
    module.remember(stored(*TEXTS))
    before = len(module.memory)
    module(stored(*TEXTS)).sum().backward()

    assert len(module.memory) == before == len(TEXTS)
    torch.testing.assert_close(module.eval().afresh(stored(*TEXTS)), module(stored(*TEXTS)), atol=1e-5, rtol=1e-5)
    module.train()
    assert not module.core.encoder.training
    assert {name.split(".")[1] for name, weight in module.named_parameters() if weight.grad is not None} == {"head"}
    module.load_state_dict(module.state_dict())
    assert len(module.memory) == 0


def test_an_encoder_can_be_trained_too(checkpoint: Path) -> None:
    """Then nothing is remembered, and a gradient reaches the first layer."""
    module = frozen(checkpoint, frozen=False).train()
    module(stored(*TEXTS)).sum().backward()

    assert not isinstance(module, Remembers)
    assert module.core.encoder.embeddings.word_embeddings.weight.grad.any()


def test_sentence_transformers_says_how_to_pool(checkpoint: Path, tmp_path: Path) -> None:
    """1_Pooling/config.json and modules.json decide where the parameters do not."""
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    for file in checkpoint.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    learned = sentence_encoder.Params(folder=folder).learn(stored("a").numpy())

    assert (learned["pooling"], json.loads(learned["normalise"])) == ("cls", True)
    assert set(sentence_encoder.Params(folder=folder).files()) == {
        "config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json",
    }  # fmt: skip
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(BadInputError, match="pooling_mode_max_tokens.*set pooling"):
        sentence_encoder.Params(folder=folder).learn(stored("a").numpy())


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """An empty folder, a package that is not there, one that ships none."""
    with pytest.raises(BadInputError, match="config.json, tokenizer.json, model.safetensors is missing"):
        sentence_encoder.Params(folder=tmp_path).files()
    with pytest.raises(BadInputError, match="'no_such_package' is not installed"):
        sentence_encoder.Params(package="no_such_package").files()
    with pytest.raises(BadInputError, match="ships no checkpoint"):
        sentence_encoder.Params(package="yaml").files()
