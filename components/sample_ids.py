"""What a sample is called: its content, whatever its label, place or data version."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def sample_ids(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """[N, *S] -> [N, 16]: the first half of a sha256 over type, shape and bytes of each sample, without its label."""
    import numpy as np

    kind = f"{samples.dtype.str} {samples.shape[1:]}".encode()
    ids = np.empty((len(samples), 16), dtype=np.uint8)
    for index, sample in enumerate(samples):
        digest = hashlib.sha256(kind + sample.tobytes()).digest()
        ids[index] = np.frombuffer(digest[:16], dtype=np.uint8)
    return ids
