"""A model of somebody's own, as the family `builder` calls it."""

from torch import Tensor, nn

from components.contracts import DataSpec
from components.models._images import Prepare


class Own(nn.Module):
    def __init__(self, data: DataSpec, hidden: int) -> None:
        super().__init__()
        self.prepare = Prepare(data)
        size = 1
        for length in data.sample_shape:
            size *= length
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, data.num_outputs)
        )

    def forward(self, samples: Tensor) -> Tensor:
        return self.layers(self.prepare(samples))


def make(data: DataSpec, hidden: int = 8) -> nn.Module:
    return Own(data, hidden)


def no_module(data: DataSpec) -> str:
    return "nothing"
