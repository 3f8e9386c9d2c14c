"""Run on its own, by a process that knows mlflow, numpy and torch alone: does the registered model say what it said?"""

import json
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")


def main(uri: str, folder: str) -> None:
    """Print the largest difference between stored and new outputs as JSON, relative where outputs exceed 1."""
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.artifacts import download_artifacts

    there = Path(download_artifacts(uri, dst_path=folder))
    model = mlflow.pytorch.load_model(str(there))
    with np.load(there / "predictions.npz", allow_pickle=False) as stored, torch.no_grad():
        outputs = model(torch.from_numpy(stored["inputs"])).numpy()
        difference = np.abs(outputs - stored["outputs"]) / np.maximum(1, np.abs(stored["outputs"]))
    sys.stdout.write(json.dumps({"difference": float(difference.max()), "rows": len(outputs)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
