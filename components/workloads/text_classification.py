"""Text classification: one label a text, such as an intent, a topic or a sentiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from components.contracts import ColumnKind, DataSpec, DecodedSamples, Expectation
from components.workloads._classification import Classification, ClassificationParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Params(ClassificationParams):
    """Texts in any language; what they should look like is for the validation of a data version."""

    name: Literal["text_classification"] = "text_classification"
    cut_share_max: float = Field(
        0.05, ge=0, le=1, description="largest share of texts that data.format.max_bytes may cut"
    )
    min_words: int = Field(1, ge=1, description="fewest words, between white space, that a text may have")
    max_words: int | None = Field(None, ge=1, description="most words; beyond that a text is probably several")
    letter_share_min: float = Field(
        0.4,
        ge=0,
        le=1,
        description="least share of letters among the characters, for 95 % of the texts; else a warning",
    )
    script: str | None = Field(
        None,
        pattern=r"^[A-Z]+$",
        description="writing that 95 % of the texts must be in, as Unicode names letters: LATIN, CYRILLIC, CJK, ...",
    )
    near_copy_share_max: float = Field(
        0.01,
        ge=0,
        le=1,
        description="largest share of texts that differ in case, spaces or punctuation only; else a warning",
    )

    def build(self, data: DataSpec | None = None) -> TextClassification:  # noqa: ARG002 - cross-entropy has no unit
        return TextClassification(self)


class TextClassification(Classification):
    """Classification of texts, uint8 [L]: UTF-8, with zeros behind it."""

    columns: ClassVar[Mapping[str, ColumnKind]] = {
        "num_bytes": "integer",
        "num_characters": "integer",
        "num_words": "integer",
        "bad_bytes": "integer",
        "letter_share": "real",
        "ascii_share": "real",
        "script": "text",
        "normal_id": "text",
    }

    def __init__(self, params: Params) -> None:
        super().__init__(calibration_bins=params.calibration_bins)
        self.params = params

    def describe(self, samples: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        """Length, share of letters, script and what else tells one text from another; [N, L] -> [N] each."""
        from components.workloads._text_columns import describe_texts

        return describe_texts(samples)

    def expectations(self, data: DataSpec) -> Sequence[Expectation]:
        """What every set of labelled texts must satisfy, on the table with one row a sample."""
        from components.workloads._text_expectations import text_expectations

        return text_expectations(data, self.params)

    def in_words(self, sample: NDArray[np.uint8]) -> str:
        """The text itself."""
        return sample.tobytes().rstrip(b"\0").decode(errors="replace")

    def tiny(self, *, seed: int) -> DecodedSamples:
        """24 short texts about three matters, each told by its own words: any model learns them in a few steps."""
        import numpy as np

        words = {"cards": "card chip pin", "money": "cash coin bill", "travel": "train ticket plane"}
        draw = np.random.Generator(np.random.Philox(seed))
        texts = [
            f"{said} {' '.join(draw.choice(words[name].split(), 2))} {draw.integers(10_000)}?"
            for said in ("my", "about the", "where is that", "no", "help with", "a", "this", "is it the")
            for name in words
        ]
        samples = np.zeros((24, 48), dtype=np.uint8)
        for row, text in enumerate(texts):
            samples[row, : len(text)] = np.frombuffer(text.encode(), dtype=np.uint8)
        return DecodedSamples(
            samples=samples,
            labels=np.arange(24, dtype=np.int64) % 3,
            class_names=tuple(words),
            sources=tuple(f"tiny:{row}" for row in range(24)),
            columns={"cut": [False] * 24},
        )
