"""Facts about single model families: sizes by hand, and what they refuse."""

import pytest
import torch
from pydantic import ValidationError

from components.contracts import DataSpec, ModelParams
from components.errors import BadInputError
from components.models import convnet, mlp, resnet

MNIST = DataSpec((1, 28, 28), tuple("0123456789"), (0.13,), (0.31,), num_train=100)
CIFAR = DataSpec((3, 32, 32), tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, num_train=100)
VECTORS = DataSpec((6,), ("a", "b"), (0.5,) * 6, (0.25,) * 6, num_train=100)


def size(params: ModelParams, spec: DataSpec) -> int:
    return sum(weight.numel() for weight in params.build(spec).parameters())


def test_mlp_by_hand() -> None:
    """784-24-10: 784 * 24 + 24 + 24 * 10 + 10 = 19,090."""
    assert size(mlp.Params(hidden=(24,)), MNIST) == 19_090
    assert size(mlp.Params(hidden=()), MNIST) == 7_850


def test_mlp_takes_vectors() -> None:
    """A sample need not be an image: six numbers, each a channel of its own."""
    logits = mlp.Params(hidden=(4,)).build(VECTORS)(torch.zeros(3, 6, dtype=torch.uint8))

    assert logits.shape == (3, 2)


def test_resnet_by_hand() -> None:
    """Depth 20 and width 1 on colour images: 272,474 with 1x1 shortcuts, the 0.27 million of the paper."""
    assert size(resnet.Params(depth=20), CIFAR) == 272_474


def test_resnet_depth_counts_its_layers() -> None:
    """Depth is the number of convolutions outside shortcuts, and the last layer."""
    module = resnet.Params(depth=26).build(CIFAR)
    convolutions = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Conv2d)]

    assert len([name for name in convolutions if "shortcut" not in name]) + 1 == 26


def test_resnet_depth_must_fit() -> None:
    """A depth that is not 6n + 2 is refused with the nearest ones that are."""
    with pytest.raises(ValidationError, match="nearest depths are 20 and 26"):
        resnet.Params(depth=22)


def test_convnet_by_hand() -> None:
    """Channels (8, 16) without norms: 1*9*8 + 8, then 8*9*16 + 16, then 16*10 + 10 = 1,418."""
    assert size(convnet.Params(channels=(8, 16), norm="none"), MNIST) == 1_418


def test_convnet_head_by_hand() -> None:
    """Flattened 7x7 maps of 4 channels into 5, then 10: (1*9*2 + 2) + (2*9*4 + 4) + (196*5 + 5) + (5*10 + 10)."""
    params = convnet.Params(channels=(2, 4), norm="none", pooling="flatten", hidden=5)

    assert size(params, MNIST) == 20 + 76 + 985 + 60


def test_more_stages_than_the_image_can_be_halved() -> None:
    """A stage beyond one pixel keeps the size instead of failing."""
    tiny = DataSpec((1, 4, 4), ("a", "b"), (0.5,), (0.25,), num_train=1)
    logits = convnet.Params(channels=(2, 2, 2, 2, 2)).build(tiny)(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))

    assert logits.shape == (2, 2)


def test_small_and_large_from_params_alone() -> None:
    """One family spans three orders of magnitude."""
    assert size(convnet.Params(channels=(4, 8)), MNIST) < 1_000
    assert size(convnet.Params(channels=(64, 128, 256), convs_per_stage=2), MNIST) > 1_000_000


@pytest.mark.parametrize("params", [convnet.Params(), resnet.Params()], ids=["convnet", "resnet"])
def test_images_only(params: ModelParams) -> None:
    """Convolutions refuse samples that are no images, and say what takes them."""
    with pytest.raises(BadInputError, match=r"\(6,\).*'mlp' takes any shape"):
        params.build(VECTORS)


def test_statistics_must_fit_the_channels() -> None:
    """Three channels need three means."""
    with pytest.raises(BadInputError, match="3 channels, but there are 1 channel means"):
        mlp.Params().build(DataSpec((3, 4, 4), ("a", "b"), (0.5,), (0.2,), num_train=1))


def test_a_constant_channel_stays_finite() -> None:
    """A deviation of 0 divides by 1 instead."""
    module = mlp.Params().build(DataSpec((1, 2, 2), ("a", "b"), (0.0,), (0.0,), num_train=1))

    assert module(torch.zeros(2, 1, 2, 2, dtype=torch.uint8)).isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [{"channels": ()}, {"channels": (0,)}, {"dropout": 1.0}, {"norm": "layer"}, {"widths": (1,)}],
    ids=str,
)
def test_convnet_params_have_bounds(wrong: dict[str, object]) -> None:
    """What cannot be built is refused at load."""
    with pytest.raises(ValidationError):
        convnet.Params.model_validate({"name": "convnet", **wrong})
