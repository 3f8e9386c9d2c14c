"""What the cache saved a real run: said at its end, in MLflow, and in the lists of the store."""

import pytest

from components.artifacts.ledger import savings
from components.artifacts.store import Store
from components.settings import Settings
from components.steps.pipeline import ORDER
from components.tracking import client
from flows.console import duration

pytestmark = [pytest.mark.slow, pytest.mark.service]
SAYS = "The cache saved "


def test_a_run_says_what_it_was_spared(world, servers):
    """Nothing the first time; then every step, with its own seconds and bytes, and every row of the teacher."""
    names, store = world.root.name, Store(Settings(var_dir=world.var))
    first = world.command(*world.run_as(names), **servers)
    assert first.code == 0, first.err
    assert SAYS not in first.out
    assert cache_metrics(servers, names) == {}
    assert list(savings(store.storage.root)) == []

    again = world.command(*world.run_as(names), **servers)
    manifests = [store.storage.manifest(kind, key) for kind in ORDER for key in store.storage.keys(kind)]
    seconds = sum(manifest.cost["seconds"] for manifest in manifests)
    num_bytes = sum(file.bytes for manifest in manifests for file in manifest.files)
    (header,) = [
        store.find("soft_targets", key).read_json("soft_targets.json") for key in store.storage.keys("soft_targets")
    ]
    rows = header["num_views"] * header["num_rows"]

    assert rows > 300
    assert len(manifests) == len(ORDER)
    assert f"\n{SAYS}{duration(seconds)} of computing and {rows} teacher rows.\n" in again.out
    assert cache_metrics(servers, names) == {
        "cache/seconds_saved": pytest.approx(seconds),
        "cache/teacher_rows_saved": rows,
        "cache/bytes_reused": num_bytes,
    }
    journal = list(savings(store.storage.root))
    assert [saving.kind for saving in journal] == list(ORDER)
    assert len({saving.run for saving in journal}) == 1
    assert f"{rows} teacher rows: 1 hit," in world.command("targets", "ls").out
    assert f"{rows} teacher rows: {len(ORDER)} hits" in world.command("artifacts", "ls").out


def cache_metrics(servers: dict[str, str], names: str) -> dict[str, float]:
    """Of the one MLflow run that all these flow runs share."""
    mlflow = client(servers["MLFLOW_TRACKING_URI"])
    experiment = mlflow.get_experiment_by_name(names)
    runs = mlflow.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    (parent,) = [run for run in runs if run.info.run_name.startswith("distill-")]
    return {name: value for name, value in parent.data.metrics.items() if name.startswith("cache/")}
