"""Whatever happens to the files of a result is noticed before it is used."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from components.artifacts.artifact import MANIFEST, MEASURED, SEAL, Artifact, Manifest, write_json
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.params import SoftTargetParams, ViewParams
from components.soft_targets.header import HEADER, LOGITS, Identity, read_header
from components.soft_targets.writer import write_soft_targets
from components.views import ViewBank

NUM_ROWS = 60
BLOCK_BYTES = 64
VIEWS = ViewParams(count=2, seed=1, transforms=({"name": "affine", "shift_pixels": 1},))
Corruption = Callable[["Victim", random.Random], None]


@dataclass(frozen=True)
class Victim:
    """A committed artifact, another one of its kind, and a folder outside the store."""

    root: Path
    other: Path
    elsewhere: Path

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def any_file(self, draw: random.Random) -> Path:
        return draw.choice(self.files())


class Said(NoProgress):
    """Remembers what a person would read."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


def plain(seed: int, out: Path) -> None:
    """Files of several sizes and depths, the larger the more of their bytes matter."""
    content = np.random.default_rng(seed)
    (out / "deep").mkdir()
    (out / "weights.bin").write_bytes(content.bytes(20_000))
    (out / "deep" / "table.bin").write_bytes(content.bytes(500))
    write_json(out / "metrics.json", {"accuracy": float(content.random())})
    write_json(out / MEASURED / "system.json", {"load": float(content.random())})


def soft_targets(seed: int, out: Path) -> None:
    """Two views of 60 rows in eight chunks, as the writer lays them out."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randint(0, 256, (NUM_ROWS, 1, 6, 6), dtype=torch.uint8, generator=generator)
    weight = torch.randn(36, 10, generator=generator) / 400
    ids = np.random.default_rng(0).integers(0, 256, (NUM_ROWS, 16), np.uint8)
    write_soft_targets(
        teacher=lambda batch: batch.flatten(1).float() @ weight,
        bank=ViewBank(samples, ids, VIEWS, limit_bytes=0),
        rows=np.arange(NUM_ROWS),
        num_views=VIEWS.count,
        identity=Identity(teacher_digest=f"{seed}", data_digest="d", view_spec={}, class_names=tuple("abcdefghij")),
        params=SoftTargetParams(batch_size=16, rows_per_chunk=16),
        out=out,
        work=out.parent / f".work-of-{out.name}",
        progress=NoProgress(),
    )
    shutil.rmtree(out.parent / f".work-of-{out.name}")
    write_json(out / MEASURED / "ledger.json", {"seconds": 1.5})


WRITERS = {"plain": plain, "soft_targets": soft_targets}


def _rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def flipped_bit(victim: Victim, draw: random.Random) -> None:
    _flip(victim.any_file(draw), draw)


def flipped_bit_in_the_manifest(victim: Victim, draw: random.Random) -> None:
    _flip(victim.root / MANIFEST, draw)


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    _rewrite(path, bytes(content))


def truncated(victim: Victim, draw: random.Random) -> None:
    path = victim.any_file(draw)
    content = path.read_bytes()
    _rewrite(path, content[: -draw.choice((1, draw.randint(1, len(content))))])


def extended(victim: Victim, draw: random.Random) -> None:
    path = victim.any_file(draw)
    _rewrite(path, path.read_bytes() + draw.choice((b"\0", b"\n", draw.randbytes(draw.randint(1, 5000)))))


def emptied(victim: Victim, draw: random.Random) -> None:
    _rewrite(victim.any_file(draw), b"")


def zeroed_block(victim: Victim, draw: random.Random) -> None:
    path = victim.any_file(draw)
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    _rewrite(path, bytes(content))


def swapped_chunks(victim: Victim, draw: random.Random) -> None:
    """Of the soft targets' own size where there are any."""
    path, num_bytes = victim.any_file(draw), BLOCK_BYTES
    if (victim.root / HEADER).exists():
        header = read_header(victim.root)
        path, num_bytes = victim.root / LOGITS, header.rows_per_chunk * header.row_stride_bytes
    _rewrite(path, _swap_blocks(path.read_bytes(), num_bytes, draw))


def _swap_blocks(content: bytes, num_bytes: int, draw: random.Random) -> bytes:
    blocks = [content[start : start + num_bytes] for start in range(0, len(content), num_bytes)]
    first, second = draw.randrange(len(blocks)), draw.randrange(len(blocks))
    blocks[first], blocks[second] = blocks[second], blocks[first]
    return b"".join(blocks)


def header_of_another(victim: Victim, draw: random.Random) -> None:
    header = HEADER if (victim.root / HEADER).exists() else "metrics.json"
    _rewrite(victim.root / header, (victim.other / header).read_bytes())


def file_of_another(victim: Victim, draw: random.Random) -> None:
    path = victim.any_file(draw)
    _rewrite(path, (victim.other / path.relative_to(victim.root)).read_bytes())


def manifest_of_another(victim: Victim, draw: random.Random) -> None:
    _rewrite(victim.root / MANIFEST, (victim.other / MANIFEST).read_bytes())


def everything_of_another(victim: Victim, draw: random.Random) -> None:
    shutil.rmtree(victim.root)
    shutil.copytree(victim.other, victim.root)


def swapped_files(victim: Victim, draw: random.Random) -> None:
    first, second = draw.sample(victim.files(), 2)
    contents = first.read_bytes(), second.read_bytes()
    _rewrite(first, contents[1])
    _rewrite(second, contents[0])


def removed(victim: Victim, draw: random.Random) -> None:
    victim.any_file(draw).unlink()


def renamed(victim: Victim, draw: random.Random) -> None:
    path = victim.any_file(draw)
    path.rename(path.with_name(f"{path.name}.{draw.randrange(100)}"))


def added(victim: Victim, draw: random.Random) -> None:
    name = draw.choice(("stranger", ".hidden", "new/folder/file", f"{MEASURED}/more.json", f"deep/{MANIFEST}"))
    path = victim.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw.randbytes(draw.randrange(100)))


def edited_manifest(victim: Victim, draw: random.Random) -> None:
    """One value, by someone who writes JSON as we do and knows of no seal."""
    path = victim.root / MANIFEST
    raw = json.loads(path.read_text())
    place = raw
    while True:
        name = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[name], dict | list) or not place[name]:
            break
        place = place[name]
    place[name] = draw.choice((None, 7, "something else", [], {}))
    _rewrite(path, (json.dumps(raw, indent=1, sort_keys=True) + "\n").encode())


def forged_manifest(victim: Victim, draw: random.Random) -> None:
    """By someone who seals it again: whatever key, digest and files depend on still gives it away."""
    manifest = Manifest.read(victim.root)
    entry = draw.choice(manifest.files)
    changed = (
        replace(entry, bytes=entry.bytes + 1),
        replace(entry, sha256=entry.sha256[::-1]),
        replace(entry, path=f"{entry.path}.x"),
        replace(entry, path=f"../{entry.path}"),
    )
    files = tuple(draw.choice(changed) if each is entry else each for each in manifest.files)
    forged = draw.choice(
        (
            replace(manifest, kind="other"),
            replace(manifest, key=manifest.key[::-1]),
            replace(manifest, digest=manifest.digest[::-1]),
            replace(manifest, files=files),
            replace(manifest, measured=()),
            replace(manifest, files=manifest.files[1:]),
        )
    )
    _rewrite(victim.root / MANIFEST, forged.dump().encode())


def link_to_the_same(victim: Victim, draw: random.Random) -> None:
    path, target = victim.any_file(draw), victim.elsewhere / f"{draw.randrange(10**9)}"
    shutil.move(path, target)
    path.symlink_to(target)


def folder_in_its_place(victim: Victim, draw: random.Random) -> None:
    path = victim.any_file(draw)
    path.unlink()
    path.mkdir()


def pipe_in_its_place(victim: Victim, draw: random.Random) -> None:
    path = victim.any_file(draw)
    path.unlink()
    os.mkfifo(path)


CORRUPTIONS: tuple[Corruption, ...] = (
    flipped_bit,
    flipped_bit_in_the_manifest,
    truncated,
    extended,
    emptied,
    zeroed_block,
    swapped_chunks,
    header_of_another,
    file_of_another,
    manifest_of_another,
    everything_of_another,
    swapped_files,
    removed,
    renamed,
    added,
    edited_manifest,
    forged_manifest,
    link_to_the_same,
    folder_in_its_place,
    pipe_in_its_place,
)


def snapshot(root: Path) -> dict[str, object]:
    """Everything below *root* that is more than a folder, links as links."""

    def look(path: Path) -> object:
        if path.is_symlink():
            return path.readlink()
        return path.read_bytes() if path.is_file() else path.is_fifo()

    return {
        str(path.relative_to(root)): look(path) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()
    }


class Shelf:
    """Two artifacts of each kind, one of which can be put back as it was."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.made = {
            kind: [self.obtain(kind, seed) for seed in (1, 2)]
            for kind in WRITERS  # the second is the other one
        }
        for kind, (first, _) in self.made.items():
            shutil.copytree(first.root, folder / kind)
        (folder / "elsewhere").mkdir()

    def obtain(self, kind: str, seed: int) -> Artifact:
        def make(out: Path, work: Path) -> dict[str, float]:
            WRITERS[kind](seed, out)
            return {"seconds": 1.5}

        key = make_key(kind, {"seed": seed, "params": {"rate": 0.1, "names": ["a", "b"]}})
        return self.store.obtain(key, make, producer="a run", progress=NoProgress()).artifact

    def corrupt(self, kind: str, corruption: Corruption, draw: random.Random) -> Artifact:
        """The artifact, changed for certain: one that was swapped with its like is drawn again."""
        artifact, other = self.made[kind]
        while True:
            shutil.rmtree(artifact.root, ignore_errors=True)
            shutil.copytree(self.folder / kind, artifact.root)
            corruption(Victim(artifact.root, other.root, self.folder / "elsewhere"), draw)
            if snapshot(artifact.root) != snapshot(self.folder / kind):
                return artifact


@pytest.mark.parametrize(
    "num_corruptions",
    [
        pytest.param(600, marks=pytest.mark.slow),
        pytest.param(5000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_every_corruption_is_noticed(store: Store, tmp_path: Path, num_corruptions: int) -> None:
    """It is said, set aside, and (seen on some of each sort) what is made again has the same digest."""
    shelf, draw, noticed = Shelf(store, tmp_path), random.Random(num_corruptions), Counter[str]()
    kinds = list(WRITERS)
    for number in range(num_corruptions):
        corruption, kind = CORRUPTIONS[number % len(CORRUPTIONS)], kinds[number // len(CORRUPTIONS) % len(kinds)]
        artifact, said = shelf.corrupt(kind, corruption, draw), Said()
        found = store.find(kind, artifact.key, progress=said)
        noticed[corruption.__name__] += found is None and "moved to" in said.messages[0]
        if number % 41 == 0:
            assert shelf.obtain(kind, 1).digest == artifact.digest
        shutil.rmtree(store.storage.root / ".quarantine")
    for name, count in noticed.items():
        print(f"{name}: {count}")
    print(f"{noticed.total()} of {num_corruptions} corruptions were noticed (seed {num_corruptions})")
    assert noticed.total() == num_corruptions


def test_what_is_put_back_is_found(store: Store, tmp_path: Path) -> None:
    """The harness itself changes nothing: a copy of the files, times and modes of their own, is the artifact."""
    shelf = Shelf(store, tmp_path)
    for kind, (artifact, _) in shelf.made.items():
        shutil.rmtree(artifact.root)
        shutil.copytree(tmp_path / kind, artifact.root)
        found = store.find(kind, artifact.key)
        assert found and found.digest == artifact.digest
        assert SEAL in json.loads(found.file(MANIFEST).read_text())
