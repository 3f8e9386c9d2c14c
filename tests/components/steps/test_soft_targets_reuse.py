"""What of earlier soft targets is taken over: after damage, and for a new version of the data. Counted, not assumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import DataSpec, DecodedSamples, NoProgress
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import NondeterminismError
from components.models.mlp import Params as Mlp
from components.params import Params
from components.sample_ids import sample_ids
from components.saved_models import save_model
from components.settings import Settings
from components.soft_targets.integrity import damaged_chunks
from components.steps import fold_teachers, soft_targets, teacher
from components.steps.execute import Outcome, execute

NUM_VIEWS, CHUNK = 3, 20
SAMPLED = 2 * CHUNK
"""Rows on which the codec is chosen here."""


class Talk(NoProgress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class World:
    """A teacher from a file of weights, and versions of one data set."""

    def __init__(self, folder: Path, settings: Settings, store: Store) -> None:
        self.folder, self.settings, self.store = folder, settings, store
        self.progress = Talk()
        self.weights = self._weights()
        self.transforms: list[dict[str, Any]] = [{"name": "affine", "shift_pixels": 1}]

    def _weights(self) -> Path:
        spec = DataSpec((1, 6, 6), ("a", "b", "c", "d"), (0.5,), (0.3,), 10)
        model = Mlp(hidden=(16,))
        torch.manual_seed(0)
        out = self.folder / "model"
        out.mkdir()
        save_model(out, model.build(spec), model, spec)
        return out / "weights.safetensors"

    def params(self, **soft: Any) -> Params:
        return Params.model_validate(
            {
                "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
                "workload": {"name": "image_classification"},
                "teacher": {
                    "source": {"kind": "weights", "file": str(self.weights)},
                    "model": {"name": "mlp", "hidden": [16]},
                },
                "soft_targets": {"batch_size": 8, "rows_per_chunk": CHUNK, "codec": "fp32", **soft},
                "student": {
                    "model": {"name": "mlp", "hidden": [4]},
                    "objective": {"name": "kd"},
                    "views": {"count": NUM_VIEWS, "transforms": self.transforms},
                },
                "gate": {"floor": 0.0},
                "registry": {"student": "s", "teacher": "t"},
            }
        )

    def data(self, samples: list[int], *, store: Store | None = None) -> Artifact:
        """A data version with these samples in training, and ten others for validation."""
        numbers = [*samples, *range(900, 910)]
        pictures = np.stack([picture(number) for number in numbers])
        decoded = DecodedSamples(
            pictures, np.arange(len(numbers)) % 4, ("a", "b", "c", "d"), tuple(map(str, numbers)), {}
        )
        of = np.repeat(np.array([0, 1], dtype=np.uint8), [len(samples), 10])

        def make(out: Path) -> None:
            write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

        name = f"{hash(tuple(samples)) % 2**32:064x}"
        return (store or self.store).commit("data", name, {}, make)

    def made(self, data: Artifact, *, settings: Settings | None = None, **soft: Any) -> Outcome:
        """Soft targets of the one teacher on *data*, through the steps."""
        chosen = settings or self.settings

        def step(which: Any, **inputs: Artifact) -> Outcome:
            return execute(
                which, params=self.params(**soft), settings=chosen, store=Store(chosen),
                inputs={"data": data, **inputs}, producer="test", progress=self.progress,
            )  # fmt: skip

        folds = step(fold_teachers.STEP).artifact
        return step(soft_targets.STEP, teacher=step(teacher.STEP).artifact, fold_teachers=folds)

    def afresh(self, data: Artifact, **soft: Any) -> Outcome:
        """The same in a store that holds nothing else."""
        empty = self.settings.model_copy(
            update={"store": str(self.folder / f"empty-{len(list(self.folder.iterdir()))}")}
        )
        return self.made(data, settings=empty, **soft)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (1, 6, 6), dtype=np.uint8)


def ledger(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.artifact.measured("ledger.json").read_text())
    return found


@pytest.fixture
def world(tmp_path: Path, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("components.soft_targets.choice.SAMPLE_ROWS", SAMPLED)
    return World(tmp_path, settings, store)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many rows the teacher was asked about since this was last called, counted where it is asked by the writer."""
    from components.soft_targets.teacher_pass import TeacherPass

    rows = [0]
    logits = TeacherPass.logits

    def counted(asked: TeacherPass, places: np.ndarray) -> np.ndarray:
        rows[0] += len(places)
        return logits(asked, places)

    monkeypatch.setattr(TeacherPass, "logits", counted)

    def taken() -> int:
        found, rows[0] = rows[0], 0
        return found

    return taken


# A new version of the data


def test_a_new_version_asks_about_its_new_samples_alone(world: World, asked: Callable[[], int]) -> None:
    """Besides the sample of the codec's choice, and two batches as a proof; the digest is that of computing all."""
    old = list(range(200))
    new = sorted({*range(20, 200, 2), *range(21, 200, 2), *range(300, 317)}, key=lambda number: number * 7 % 211)
    world.made(world.data(old))
    assert asked() == 200 * NUM_VIEWS

    data = world.data(new)
    outcome = world.made(data)
    count = asked()
    found = ledger(outcome)

    assert count == found["rows_computed"] + found["rows_checked"]
    assert found["rows_computed"] == 17 * NUM_VIEWS
    assert found["rows_checked"] <= SAMPLED + 2 * 8
    assert found["rows_reused"] >= 180 * NUM_VIEWS - SAMPLED
    total = len(new) * NUM_VIEWS
    assert found["rows_computed"] + found["rows_reused"] + found["rows_checked"] - 16 == total
    assert found["teacher_passes_saved"] == found["rows_reused"] / len(new)
    assert world.afresh(data).artifact.digest == outcome.artifact.digest


@pytest.mark.parametrize("codec", ["fp16", "auto"])
def test_encoded_rows_are_taken_over_as_they_are(world: World, codec: str) -> None:
    """With a lossy codec too, as long as the new version's own sample chooses the same."""
    world.made(world.data(list(range(200))), codec=codec)
    data = world.data(list(range(5, 210)))

    outcome = world.made(data, codec=codec)

    assert ledger(outcome)["rows_reused"] > 0
    assert world.afresh(data, codec=codec).artifact.digest == outcome.artifact.digest


def test_what_differs_in_more_than_the_data_is_left_alone(world: World) -> None:
    """Another batch size, precision, codec or set of views has nothing to give."""
    world.made(world.data(list(range(200))))
    data = world.data(list(range(5, 210)))

    assert ledger(world.made(data, batch_size=9))["rows_reused"] == 0
    assert ledger(world.made(data, codec="fp16"))["rows_reused"] == 0
    world.weights.write_bytes(world.weights.read_bytes()[:-4] + np.float32(0.25).tobytes())
    assert ledger(world.made(data))["rows_reused"] == 0


def test_views_that_mix_samples_are_other_views_in_another_version(world: World) -> None:
    """Partners are drawn from all samples there are: nothing is taken over, and the result is that of computing all."""
    world.transforms = [{"name": "mixup"}]
    world.made(world.data(list(range(200))))
    data = world.data(list(range(5, 210)))

    outcome = world.made(data)

    assert ledger(outcome)["rows_reused"] == 0
    assert world.afresh(data).artifact.digest == outcome.artifact.digest


def test_a_teacher_that_says_something_else_is_noticed(world: World, tmp_path: Path) -> None:
    """Rows that the teacher does not repeat are not taken over, and that is said; the result is the true one."""
    first = world.made(world.data(list(range(200)))).artifact
    forge(first, byte=5)
    data = world.data(list(range(5, 210)))

    outcome = world.made(data)

    assert ledger(outcome)["rows_reused"] == 0
    assert any(
        "are not taken over: asked again, the teacher does not say the same bits" in said
        for said in world.progress.said
    )
    assert world.afresh(data).artifact.digest == outcome.artifact.digest


def test_places_in_a_batch_that_matter_are_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where logits depend on a row's place in its batch, every row is computed."""
    from components.soft_targets import teacher_pass

    ask = teacher_pass.ask

    def uneven(model: Any, samples: torch.Tensor, batch_size: int) -> np.ndarray:
        said = ask(model, samples, batch_size)
        said[0] = np.nextafter(said[0], np.float32(100))
        return said

    monkeypatch.setattr(teacher_pass, "ask", uneven)
    world.made(world.data(list(range(200))))
    data = world.data([*range(8, 200), *range(300, 308)])

    outcome = world.made(data)

    assert ledger(outcome)["rows_reused"] == 0
    assert any("are not taken over" in said for said in world.progress.said)


def forge(artifact: Artifact, *, byte: int) -> None:
    """Rewrite every stored logit a little, with hashes that fit: the trace of another machine, or of a bug."""
    import hashlib

    from components.artifacts.artifact import MANIFEST, FileEntry, payload_digest
    from components.soft_targets.header import read_header, write_header

    path = artifact.file("logits.bin")
    header, manifest = read_header(artifact.root), artifact.manifest()
    content = (np.fromfile(path, dtype="<f4") * np.float32(1 + 1e-6 * byte)).tobytes()
    step = header.rows_per_chunk * header.row_stride_bytes
    hashes = tuple(hashlib.sha256(content[start : start + step]).hexdigest() for start in range(0, len(content), step))
    for name in ("logits.bin", "soft_targets.json", MANIFEST):
        artifact.file(name).chmod(0o644)
    path.write_bytes(content)
    write_header(artifact.root, header.model_copy(update={"chunk_sha256": hashes}))
    files = tuple(
        FileEntry(entry.path, artifact.file(entry.path).stat().st_size, sha256(artifact.file(entry.path)))
        for entry in manifest.files
    )
    import dataclasses

    changed = dataclasses.replace(manifest, files=files, digest=payload_digest(files))
    artifact.file(MANIFEST).write_text(changed.dump())


def sha256(path: Path) -> str:
    from components.artifacts.artifact import sha256_of

    return sha256_of(path)


# After damage


def damage(artifact: Artifact, chunk: int, name: str = "logits.bin") -> None:
    path = artifact.file(name)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[chunk * CHUNK * 16 + 3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("chunks", [(4,), (0, 4, 29), tuple(range(30))])
def test_only_damaged_chunks_are_computed_again(
    world: World, asked: Callable[[], int], chunks: tuple[int, ...]
) -> None:
    """Besides the sample of the codec's choice; the digest is the one from before."""
    data = world.data(list(range(200)))
    first = world.made(data)
    asked()
    for chunk in chunks:
        damage(first.artifact, chunk)

    again = world.made(data)
    count, found = asked(), ledger(again)

    assert not again.cached
    assert again.artifact.digest == first.artifact.digest
    assert found["rows_computed"] == len(chunks) * CHUNK
    assert count == found["rows_computed"] + found["rows_checked"]
    assert found["rows_checked"] <= SAMPLED
    assert found["rows_salvaged"] == 600 - found["rows_computed"] - found["rows_checked"]


def test_damage_elsewhere_costs_no_row_beyond_the_sample(world: World) -> None:
    """rows.npy, the figures of quality and files that do not belong are made again from intact chunks."""
    data = world.data(list(range(200)))
    for name in ("rows.npy", "sample_ids.npy", "quality.json", "extra"):
        artifact = world.made(data).artifact
        artifact.root.chmod(0o755)
        path = artifact.file(name)
        if path.exists():
            path.chmod(0o644)
        path.write_bytes(b"not what it was")

        again = world.made(data)

        assert again.artifact.digest == artifact.digest
        assert ledger(again)["rows_computed"] == 0


@pytest.mark.parametrize("name", ["soft_targets.json", "manifest.json"])
def test_without_a_header_to_trust_everything_is_computed(world: World, name: str) -> None:
    """Nothing else says what the chunks should be."""
    data = world.data(list(range(200)))
    first = world.made(data)
    path = first.artifact.file(name)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha255", 1))

    again = world.made(data)

    assert again.artifact.digest == first.artifact.digest
    assert ledger(again)["rows_computed"] == 600


def test_a_header_that_vouches_for_damage_is_not_trusted(world: World) -> None:
    """A wrong chunk whose hash in the header was changed along with it: the manifest's hash of the header tells."""
    import hashlib

    data = world.data(list(range(200)))
    first = world.made(data)
    told = json.loads(first.artifact.file("soft_targets.json").read_text())
    size = CHUNK * told["row_stride_bytes"]
    damage(first.artifact, 4)
    wrong = first.artifact.file("logits.bin").read_bytes()[4 * size : 5 * size]
    path = first.artifact.file("soft_targets.json")
    path.chmod(0o644)
    path.write_text(path.read_text().replace(told["chunk_sha256"][4], hashlib.sha256(wrong).hexdigest()))

    again = world.made(data)

    assert again.artifact.digest == first.artifact.digest
    assert ledger(again)["rows_salvaged"] == 0


def test_a_copy_of_another_machine_is_not_salvaged(world: World) -> None:
    """Its last bits may be others, and a result is of one machine."""
    data = world.data(list(range(200)))
    first = world.made(data)
    damage(first.artifact, 4)
    path = first.artifact.file("manifest.json")
    path.chmod(0o644)
    manifest = json.loads(path.read_text())
    manifest["fingerprint"]["instructions"] = "another"
    path.write_text(json.dumps(manifest))

    again = world.made(data)

    assert ledger(again)["rows_computed"] == 600


def test_a_result_that_is_not_what_it_was_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same machine and builds, what replaces a damaged copy must be the same bytes."""
    data = world.data(list(range(200)))
    damage(world.made(data).artifact, 4)
    monkeypatch.setattr("components.soft_targets.quality.LIVE_ROWS", 10)

    with pytest.raises(NondeterminismError, match="on the same machine and builds"):
        world.made(data)


def test_inspection_names_the_chunks(world: World, tmp_path: Path) -> None:
    """Flips, swaps, truncation and extension of logits.bin."""
    root = world.made(world.data(list(range(200)))).artifact.root
    whole = (root / "logits.bin").read_bytes()
    size = CHUNK * 16
    swapped = whole[:size] + whole[2 * size : 3 * size] + whole[size : 2 * size] + whole[3 * size :]
    cases = {
        (): whole,
        (3,): whole[: 3 * size + 7] + bytes([whole[3 * size + 7] ^ 1]) + whole[3 * size + 8 :],
        (1, 2): swapped,
        (28, 29): whole[: 28 * size + 1],
        (29,): whole + b"\0",
        tuple(range(30)): b"",
    }
    for expected, content in cases.items():
        copy = tmp_path / f"copy-{len(content)}-{expected[:1]}"
        shutil.copytree(root, copy, copy_function=shutil.copyfile)
        (copy / "logits.bin").write_bytes(content)

        assert damaged_chunks(copy) == expected


# Over processes


@pytest.fixture
def several(settings: Settings) -> Iterator[Callable[[int, Path], Settings]]:
    yield lambda count, folder: settings.model_copy(update={"generation_processes": count, "store": str(folder)})


@pytest.mark.slow
def test_one_two_and_three_processes_end_in_one_digest(
    world: World, several: Callable[[int, Path], Settings], tmp_path: Path
) -> None:
    """Each computes chunks that no other does."""
    data = world.data(list(range(200)))
    alone = world.made(data, codec="auto")
    for count in (2, 3):
        shared = world.made(data, settings=several(count, tmp_path / f"store-{count}"), codec="auto")

        assert shared.artifact.digest == alone.artifact.digest
        assert ledger(shared)["rows_computed"] == 600
        assert ledger(shared)["teacher_seconds"] > 0
