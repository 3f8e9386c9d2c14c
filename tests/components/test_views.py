"""Views are functions of seed, sample id and view index alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components import plugins
from components.errors import BadInputError
from components.params import ViewParams
from components.views import ViewBank, ViewDraws, counters_of, make_views, philox4x32, pixel_hashes, stream_key

# From kat_vectors of Random123, the authors' own library, for 7 rounds: counter, key, output.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "5f6fb709 0d893f64 4f121f81 4f730a48"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "5207ddc2 45165e59 4d8ee751 8c52f662"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "4dfccaba 190a87f0 c47362ba b6b5242a"),
]
SHIFT_FLIP = {"name": "affine", "shift_pixels": 2, "flip_horizontal": True}
TURN = {"name": "affine", "rotate_degrees": 15, "scale": 0.2, "fill": "edge"}
PARAMS = ViewParams(count=4, seed=3, transforms=(SHIFT_FLIP, TURN))
EVERYTHING = [
    SHIFT_FLIP,
    {"name": "resized_crop", "area_min": 0.4},
    {"name": "color_jitter", "brightness": 0.2, "contrast": 0.2},
    {"name": "erasing", "fill": "noise"},
]
MIXED = [
    ViewParams(count=4, seed=3, transforms=(*EVERYTHING, last))
    for last in ({"name": "mixup", "probability": 0.8}, {"name": "cutmix", "beta": 2.0})
]
MIXING = pytest.mark.parametrize("params", MIXED, ids=["mixup", "cutmix"])
NUM_SAMPLES = 40
GOLDEN_NOISE = "2970caacaab115568a1e2d8e3a313a491697e1b8d38b0f08acafb870e17a356b"
GOLDEN_DRAWS = "25bccd6c047b1e567145fa93f895af1b78e841e89fe82df18d8c9f16cfc5e1c9"
GOLDEN_MIXED = {
    "mixup": "a706c8a6e204f7d6e0eaafd502a58c6262229695f5e544f7ce9d297e8960aec0",
    "cutmix": "135362d8c5b7850df925baedc2f5aceff5d48a8b0679698730cd8eed9e409422",
}
GOLDEN_PIXELS = "b74cb09534e3e6c5930f1e62429430908f6720763d981289a9cc949dfc35168d"


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def sample_ids(count: int) -> np.ndarray:
    """[count, 16]: ids as the data step makes them, the first bytes of a sha256."""
    digests = [hashlib.sha256(str(index).encode()).digest()[:16] for index in range(count)]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(count, 16)


def pictures(count: int = NUM_SAMPLES, shape: tuple[int, ...] = (2, 9, 8)) -> torch.Tensor:
    flat = np.arange(count * int(np.prod(shape)), dtype=np.uint64)
    return torch.from_numpy((flat * 2654435761 % 251).astype(np.uint8).reshape(count, *shape))


def draws(ids: np.ndarray, *, seed: int = 0, view: int = 1) -> ViewDraws:
    return ViewDraws(counters_of(ids), seed, view, torch.device("cpu"))


def sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


@pytest.fixture
def _restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN_ANSWERS)
def test_generator_gives_the_published_answers(counter: str, key: str, output: str) -> None:
    """Philox4x32-7 agrees with the known-answer vectors of its authors."""
    found = philox4x32(np.array([words(counter)], dtype=np.uint32).T, tuple(words(key)))

    assert found[:, 0].tolist() == words(output)


def test_generator_treats_each_counter_alone() -> None:
    """A counter's words are the same alone and among others."""
    counters = np.random.default_rng(0).integers(0, 2**32, (4, 50), dtype=np.uint32)

    together = philox4x32(counters, (1, 2))

    alone = np.concatenate([philox4x32(counters[:, row : row + 1], (1, 2)) for row in range(50)], axis=1)
    assert np.array_equal(together, alone)


@given(low=st.integers(-1000, 1000), span=st.integers(1, 5000), seed=st.integers(0, 2**70), view=st.integers(0, 10**5))
def test_draws_stay_in_range_and_do_not_depend_on_the_batch(low: int, span: int, seed: int, view: int) -> None:
    """Numbers lie in low..high, and a permuted part of the samples draws the same ones."""
    ids = sample_ids(NUM_SAMPLES)
    order = np.random.default_rng(span).permutation(NUM_SAMPLES)[:7]

    everyone = draws(ids, seed=seed, view=view).integers(low, low + span - 1, word=0)
    some = draws(ids[order], seed=seed, view=view).integers(low, low + span - 1, word=0)

    assert everyone.dtype == torch.int64
    assert low <= int(everyone.min()) and int(everyone.max()) < low + span
    assert torch.equal(everyone[order], some)


def test_draws_reach_both_ends_evenly() -> None:
    """Over 40,000 samples the five values of -2..2 come up equally often (chi-square below its 0.999 quantile)."""
    ids = np.random.default_rng(1).integers(0, 256, (40_000, 16), dtype=np.uint8)

    counts = torch.bincount(draws(ids).integers(-2, 2, word=0) + 2, minlength=5).numpy()

    assert ((counts - 8000) ** 2 / 8000).sum() < 18.5


@pytest.mark.parametrize("changed", ["seed", "view", "word", "block", "scope", "sample"])
def test_streams_differ(changed: str) -> None:
    """Another seed, view, word, step or sample is another stream."""
    ids = sample_ids(64)
    base = draws(ids).integers(0, 10**6, word=0)
    other = {
        "seed": draws(ids, seed=1).integers(0, 10**6, word=0),
        "view": draws(ids, view=2).integers(0, 10**6, word=0),
        "word": draws(ids).integers(0, 10**6, word=1),
        "block": draws(ids).integers(0, 10**6, word=4),
        "scope": draws(ids).within("1:affine").integers(0, 10**6, word=0),
        "sample": draws(np.roll(ids, 1, axis=0)).integers(0, 10**6, word=0),
    }[changed]

    assert (base != other).float().mean() > 0.9


def test_numbers_are_pinned() -> None:
    """The numbers of a fixed seed never change: stored soft targets depend on them."""
    pinned = draws(sample_ids(100), seed=7, view=3)
    drawn = torch.stack([pinned.integers(-1000, 1000, word=word) for word in range(6)])

    assert stream_key(7, 3, "pinned") == (2910620326, 1043231274)
    assert sha256(drawn) == GOLDEN_DRAWS
    assert sha256(pinned.noise(50)) == GOLDEN_NOISE


def test_pixels_are_pinned() -> None:
    """The pixels of a fixed seed never change, on any machine."""
    assert sha256(make_views(pictures(), sample_ids(NUM_SAMPLES), 3, PARAMS)) == GOLDEN_PIXELS


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(NUM_SAMPLES)), size=st.integers(1, NUM_SAMPLES), view=st.integers(0, 8))
def test_a_view_does_not_depend_on_batch_size_or_order(order: list[int], size: int, view: int) -> None:
    """Any order in any batch size gives each sample the pixels it has when all are made at once."""
    samples, ids = pictures(), sample_ids(NUM_SAMPLES)
    whole = make_views(samples, ids, view, PARAMS)

    parts = [order[start : start + size] for start in range(0, NUM_SAMPLES, size)]
    made = torch.cat([make_views(samples[part], ids[part], view, PARAMS) for part in parts])

    assert torch.equal(made, whole[order])


@pytest.mark.usefixtures("_restored_threads")
def test_a_view_does_not_depend_on_the_number_of_threads() -> None:
    """One thread and two give the same pixels."""
    samples, ids = pictures(400, (3, 32, 32)), sample_ids(400)
    made = []
    for count in (1, 2):
        torch.set_num_threads(count)
        made.append(make_views(samples, ids, 1, PARAMS))

    assert torch.equal(*made)


@pytest.mark.parametrize("limit_bytes", [0, 10**9])
def test_a_bank_gives_the_same_bits_prepared_or_not(limit_bytes: int) -> None:
    """Views kept in memory and views made for each batch are the views that make_views makes."""
    samples, ids = pictures(), sample_ids(NUM_SAMPLES)
    bank = ViewBank(samples, ids, PARAMS, limit_bytes=limit_bytes)

    for view in (0, 3, 1, 3, 2):
        rows = torch.randperm(NUM_SAMPLES, generator=torch.Generator().manual_seed(view))[:11]
        assert torch.equal(bank.batch(rows, view), make_views(samples[rows], ids[rows.numpy()], view, PARAMS))
    assert bank.fits == (limit_bytes > 0)


def test_a_bank_in_parts_is_the_bank_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many samples are prepared, or counters drawn, at once changes no pixel."""
    samples, ids = pictures(), sample_ids(NUM_SAMPLES)
    rows = torch.arange(NUM_SAMPLES)
    whole = ViewBank(samples, ids, PARAMS, limit_bytes=10**9).batch(rows, 1)

    monkeypatch.setattr("components.views.PIXELS_AT_ONCE", 7 * samples[0].numel())
    monkeypatch.setattr("components.views.COUNTERS_AT_ONCE", 3)

    assert torch.equal(ViewBank(samples, ids, PARAMS, limit_bytes=10**9).batch(rows, 1), whole)
    assert torch.equal(ViewBank(samples, ids, PARAMS, limit_bytes=0).batch(rows, 1), whole)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (PARAMS, 3),
        (ViewParams(count=4, transforms=(SHIFT_FLIP,), first_is_identity=False), 4),
        (ViewParams(), 0),
    ],
)
def test_prepared_bytes_leave_out_views_that_are_the_sample(params: ViewParams, expected: int) -> None:
    """The identity costs nothing, every other view the bytes of the samples."""
    bank = ViewBank(pictures(), sample_ids(NUM_SAMPLES), params, limit_bytes=0)

    assert bank.prepared_bytes == expected * pictures().numel()


@pytest.mark.parametrize("limit_bytes", [0, 10**9])
def test_view_is_taken_modulo_the_count(limit_bytes: int) -> None:
    """View 5 of 4 is view 1."""
    bank = ViewBank(pictures(), sample_ids(NUM_SAMPLES), PARAMS, limit_bytes=limit_bytes)
    rows = torch.arange(NUM_SAMPLES)

    assert torch.equal(bank.batch(rows, 5), bank.batch(rows, 1))
    assert not torch.equal(bank.batch(rows, 2), bank.batch(rows, 1))


def test_first_view_is_the_sample_unless_params_say_otherwise() -> None:
    """View 0 is untouched with first_is_identity, and a view like the others without."""
    samples, ids = pictures(), sample_ids(NUM_SAMPLES)
    other = PARAMS.model_copy(update={"first_is_identity": False})

    assert torch.equal(make_views(samples, ids, 0, PARAMS), samples)
    assert not torch.equal(make_views(samples, ids, 0, other), samples)
    assert torch.equal(make_views(samples, ids, 5, ViewParams()), samples)


def test_two_transforms_of_a_kind_draw_different_numbers() -> None:
    """A shift after a shift is not the same shift twice."""
    samples, ids = pictures(), sample_ids(NUM_SAMPLES)
    once, twice = (
        make_views(samples, ids, 1, ViewParams(count=2, transforms=(SHIFT_FLIP,) * times)) for times in (1, 2)
    )
    again = make_views(once, ids, 1, ViewParams(count=2, transforms=(SHIFT_FLIP,)))

    assert not torch.equal(twice, again)


@pytest.mark.parametrize("limit_bytes", [0, 10**9])
def test_a_bank_keeps_two_transforms_of_a_kind_apart(limit_bytes: int) -> None:
    """The numbers that a bank remembers belong to one transform of one view."""
    samples, ids, rows = pictures(), sample_ids(NUM_SAMPLES), torch.arange(NUM_SAMPLES)
    params = ViewParams(count=3, transforms=(SHIFT_FLIP, SHIFT_FLIP))
    bank = ViewBank(samples, ids, params, limit_bytes=limit_bytes)

    for view in (1, 2, 1):
        assert torch.equal(bank.batch(rows, view), make_views(samples, ids, view, params))


# Mixed views: partners are drawn among the samples of the bank


def mixed_bank(params: ViewParams, *, limit_bytes: int = 0, rows: np.ndarray | None = None) -> ViewBank:
    samples = pictures() if rows is None else pictures()[rows]
    return ViewBank(samples, sample_ids(NUM_SAMPLES), params, limit_bytes=limit_bytes, rows=rows)


@MIXING
@settings(max_examples=20)
@given(
    order=st.permutations(range(NUM_SAMPLES)),
    size=st.integers(1, NUM_SAMPLES),
    view=st.integers(0, 8),
    limit_bytes=st.sampled_from([0, 10**9]),
)
def test_a_mixed_view_does_not_depend_on_batch_size_or_order(
    params: ViewParams, order: list[int], size: int, view: int, limit_bytes: int
) -> None:
    """Partner, share and pixels of a sample are the same in any batch, prepared or made when asked for."""
    everyone = torch.arange(NUM_SAMPLES)
    whole = mixed_bank(params).batch(everyone, view)
    mixture = mixed_bank(params).mixture(everyone, view)
    bank = mixed_bank(params, limit_bytes=limit_bytes)

    for start in range(0, NUM_SAMPLES, size):
        part = torch.tensor(order[start : start + size])
        assert torch.equal(bank.batch(part, view), whole[part])
        found = bank.mixture(part, view)
        assert (found is None) == (mixture is None) == (view % 4 == 0)
        if found and mixture:
            assert torch.equal(found.partners, mixture.partners[part])
            assert torch.equal(found.share, mixture.share[part])


@MIXING
def test_a_mixed_view_is_its_two_samples_own_views_mixed(params: ViewParams) -> None:
    """The partner is seen in the same view, as the steps before mixing leave it."""
    bank, everyone = mixed_bank(params), torch.arange(NUM_SAMPLES)
    before = ViewBank(
        pictures(),
        sample_ids(NUM_SAMPLES),
        params.model_copy(update={"transforms": params.transforms[:-1]}),
        limit_bytes=0,
    )
    mixture = bank.mixture(everyone, 2)
    assert mixture
    own, theirs = before.batch(everyone, 2).double(), before.batch(mixture.partners, 2).double()
    made = bank.batch(everyone, 2).double()

    if params.transforms[-1].name == "cutmix":
        assert bool(((made == own) | (made == theirs)).all())
        return
    share = mixture.share.double()[:, None, None, None]
    assert (made - (share * own + (1 - share) * theirs)).abs().max() <= 0.5


@MIXING
def test_rows_are_those_of_the_data_set_and_partners_of_the_bank(params: ViewParams) -> None:
    """A bank of some rows draws partners among them, and names them by their rows."""
    rows = np.array([3, 5, 8, 13, 21, 34])
    bank, asked = mixed_bank(params, rows=rows), torch.tensor([34, 5])

    mixtures = [bank.mixture(torch.from_numpy(rows), view) for view in (1, 2, 3)]

    assert {int(row) for mixture in mixtures if mixture for row in mixture.partners} <= set(rows.tolist())
    assert torch.equal(bank.batch(asked, 1), bank.batch(torch.from_numpy(rows), 1)[[5, 1]])
    assert not torch.equal(bank.batch(asked, 1), mixed_bank(params).batch(asked, 1))


def test_a_bank_of_some_rows_has_the_views_of_the_bank_of_all() -> None:
    """Where nothing mixes, a sample's view does not depend on which others are there."""
    rows = np.array([3, 5, 8, 13, 21, 34])
    some = ViewBank(pictures()[rows], sample_ids(NUM_SAMPLES), PARAMS, limit_bytes=10**9, rows=rows)
    every = ViewBank(pictures(), sample_ids(NUM_SAMPLES), PARAMS, limit_bytes=0)
    asked = torch.tensor([34, 3, 13])

    assert torch.equal(some.batch(asked, 2), every.batch(asked, 2))
    assert (some.mixes, some.mixture(asked, 2)) == (False, None)
    with pytest.raises(IndexError):
        some.batch(torch.tensor([4]), 2)


def test_partners_are_even() -> None:
    """Each of 20 samples is the partner of a fair share of 16,000 views (chi-square below its 0.999 quantile)."""
    params = ViewParams(count=801, transforms=({"name": "mixup"},))
    bank = ViewBank(pictures(20, (1, 1, 1)), sample_ids(20), params, limit_bytes=0)
    counts = torch.zeros(20)

    for view in range(1, 801):
        mixture = bank.mixture(torch.arange(20), view)
        assert mixture
        counts += torch.bincount(mixture.partners, minlength=20)

    assert float(((counts - 800) ** 2 / 800).sum()) < 43.8


def test_another_process_makes_the_same_mixed_views(tmp_path: Path) -> None:
    """A fresh interpreter with another hash seed and two threads gives the same hashes of pixels."""
    pairs = [(row, view) for row in range(0, NUM_SAMPLES, 7) for view in (0, 1, 3)]
    np.savez(tmp_path / "given.npz", samples=pictures().numpy(), ids=sample_ids(NUM_SAMPLES))
    code = f"""
import json
import numpy as np
import torch
from components.params import ViewParams
from components.views import ViewBank, pixel_hashes
torch.set_num_threads(2)
given = np.load({str(tmp_path / "given.npz")!r})
for text in {[params.model_dump_json() for params in MIXED]!r}:
    params = ViewParams.model_validate_json(text)
    bank = ViewBank(torch.from_numpy(given["samples"]), given["ids"], params, limit_bytes=10**9)
    print(json.dumps(pixel_hashes(bank, {pairs!r})))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        pixel_hashes(mixed_bank(params), pairs) for params in MIXED
    ]


@MIXING
def test_mixed_pixels_are_pinned(params: ViewParams) -> None:
    """All steps together, on fixed ids, give pixels that never change."""
    made = torch.cat([mixed_bank(params).batch(torch.arange(NUM_SAMPLES), view) for view in (1, 2, 3)])

    assert sha256(made) == GOLDEN_MIXED[params.transforms[-1].name]


def test_transforms_that_would_never_run_are_refused() -> None:
    """One view that is the sample itself leaves no room for them."""
    with pytest.raises(ValidationError, match="no transform would ever run: raise count, or set first_is_identity"):
        ViewParams(transforms=(SHIFT_FLIP,))

    assert ViewParams(transforms=(SHIFT_FLIP,), first_is_identity=False).count == 1


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["mixup", "erasing"], "mixup must come last in transforms"),
        (["mixup", "cutmix"], "a view mixes two samples once, and transforms hold mixup and cutmix"),
        (["cutmix", "cutmix"], "hold cutmix and cutmix: keep one"),
    ],
)
def test_mixing_comes_once_and_last(names: list[str], problem: str) -> None:
    """Otherwise a view would have more than two labels, or a label that later steps know nothing of."""
    with pytest.raises(ValidationError, match=problem):
        ViewParams(count=2, transforms=tuple({"name": name} for name in names))


def test_what_a_batch_returns_is_its_own() -> None:
    """Writing into a batch changes neither the samples nor the next batch."""
    samples = pictures()
    bank = ViewBank(samples, sample_ids(NUM_SAMPLES), PARAMS, limit_bytes=10**9)
    rows = torch.arange(NUM_SAMPLES)
    for view in (0, 1):
        expected = bank.batch(rows, view).clone()
        bank.batch(rows, view).fill_(0)
        assert torch.equal(bank.batch(rows, view), expected)


def test_wrong_samples_or_ids_are_refused() -> None:
    """Samples that are neither uint8 nor float32 and ids of the wrong shape are named."""
    with pytest.raises(BadInputError, match=r"uint8 or float32 samples, and these are torch\.float64"):
        ViewBank(pictures().double(), sample_ids(NUM_SAMPLES), PARAMS, limit_bytes=0)
    with pytest.raises(BadInputError, match="affine changes samples of whole numbers.*only mixing"):
        ViewBank(pictures().float(), sample_ids(NUM_SAMPLES), PARAMS, limit_bytes=0)
    with pytest.raises(BadInputError, match=r"sample ids uint8 \[40, 16\], not uint8 \[39, 16\]"):
        ViewBank(pictures(), sample_ids(NUM_SAMPLES - 1), PARAMS, limit_bytes=0)
    with pytest.raises(BadInputError, match=r"must be uint8 \[N, 16\], not uint8 \[40, 8\]"):
        ViewBank(pictures(), sample_ids(NUM_SAMPLES)[:, :8], PARAMS, limit_bytes=0)
    with pytest.raises(BadInputError, match=r"40 samples cannot stand at 39 rows"):
        ViewBank(pictures(), sample_ids(NUM_SAMPLES), PARAMS, limit_bytes=0, rows=np.arange(39))


def test_rows_of_real_numbers_are_mixed() -> None:
    """View 1 is the share of the sample and the rest of its partner; view 0 the sample itself, to the bit."""
    samples = torch.from_numpy(np.random.default_rng(0).normal(size=(NUM_SAMPLES, 3)).astype(np.float32))
    params = ViewParams.model_validate({"count": 2, "transforms": [{"name": "mixup"}]})
    bank, rows = ViewBank(samples, sample_ids(NUM_SAMPLES), params, limit_bytes=2**20), torch.arange(NUM_SAMPLES)
    mixture = bank.mixture(rows, 1)
    assert mixture is not None
    share = mixture.share[:, None]

    assert torch.equal(bank.batch(rows, 0), samples)
    assert torch.equal(bank.batch(rows, 1), share * samples + (1 - share) * samples[mixture.partners])


def test_importing_views_does_not_import_torch() -> None:
    """A cached run needs no torch."""
    names = ", ".join(f"components.transforms.{name}" for name in plugins.available("transforms"))
    code = f"import sys, components.views, {names}; assert 'torch' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_partners_are_of_the_same_group(mixed_bank_of_groups: tuple[ViewBank, np.ndarray]) -> None:
    """All of them occur; a group of one is mixed with itself; prepared or not, the views are the same bits."""
    bank, groups = mixed_bank_of_groups
    everyone = torch.arange(len(groups))
    prepared = ViewBank(bank.samples, bank.sample_ids, bank.params, limit_bytes=10**9, groups=groups)
    seen: dict[int, set[int]] = {}
    for view in range(bank.params.count):
        mixture = bank.mixture(everyone, view)
        assert mixture
        assert (groups[mixture.partners.numpy()] == groups).all()
        for row, partner in enumerate(mixture.partners.tolist()):
            seen.setdefault(groups[row], set()).add(partner)
        assert torch.equal(bank.batch(everyone, view), prepared.batch(everyone, view))
    assert {group: len(partners) for group, partners in seen.items()} == dict(
        zip(*np.unique(groups, return_counts=True), strict=True)
    )


def test_one_group_of_all_is_no_group_at_all(mixed_bank_of_groups: tuple[ViewBank, np.ndarray]) -> None:
    """The same draws, so that soft targets made before there were groups stay true."""
    bank, groups = mixed_bank_of_groups
    everyone = torch.arange(len(groups))
    one, none = (
        ViewBank(bank.samples, bank.sample_ids, bank.params, limit_bytes=0, groups=given)
        for given in (np.zeros_like(groups), None)
    )

    for view in range(bank.params.count):
        assert torch.equal(one.batch(everyone, view), none.batch(everyone, view))


@pytest.fixture
def mixed_bank_of_groups() -> tuple[ViewBank, np.ndarray]:
    params = ViewParams.model_validate({"count": 40, "transforms": [{"name": "mixup"}], "first_is_identity": False})
    samples = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4), dtype=np.uint8))
    ids = np.random.default_rng(1).integers(0, 256, (12, 16), dtype=np.uint8)
    groups = np.array([-1, 0, 1, 0, 1, 1, -1, 0, 3, 1, -1, 0])
    return ViewBank(samples, ids, params, limit_bytes=0, groups=groups), groups
