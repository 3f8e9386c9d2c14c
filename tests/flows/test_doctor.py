"""What `potstill doctor` notices."""

import fcntl
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from components.settings import TELEMETRY_OFF, Settings
from flows import doctor
from flows.doctor import Check, diagnose, print_diagnosis

ROOT = Path(__file__).parents[2]
GOOD = """\
data: {repository: r, path: p, format: {name: parquet}}
workload: {name: image_classification}
teacher: {model: {name: convnet}}
student: {model: {name: mlp}, objective: {name: kd}}
gate: {floor: 0.5}
registry: {student: s, teacher: t}
"""


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(GOOD)
    return path


def look(settings: Settings, params_file: Path, name: str) -> Check:
    (found,) = (check for check in diagnose(settings, params_file) if check.name == name)
    return found


def test_a_sound_place_has_no_failure_and_stays_as_it_was(
    settings: Settings, params_file: Path, capsys: pytest.CaptureFixture[str]
):
    """Every check passes or warns, the exit code is 0, and var is not left behind."""
    checks = diagnose(settings, params_file)
    assert [check for check in checks if check.level == "fail"] == []
    assert print_diagnosis(checks) == 0
    assert "A run can start" in capsys.readouterr().out
    assert not settings.var_dir.exists()


def test_it_is_fast_and_imports_nothing_heavy(tmp_path: Path, params_file: Path):
    """Under two seconds in a new process, without torch, prefect, mlflow, dvc or great_expectations."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom components.settings import Settings\nfrom flows.doctor import diagnose\n"
        f"diagnose(Settings(var_dir=Path({str(tmp_path)!r})), Path({str(params_file)!r}))\n"
        "heavy = ('torch', 'prefect', 'mlflow', 'dvc', 'great_expectations', 'pandas')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("package", "symptom"), [("fastapi", "fails at import"), ("sqlalchemy", "scheduled runs never start")]
)
def test_the_two_traps_say_what_they_break(
    settings: Settings, params_file: Path, monkeypatch: pytest.MonkeyPatch, package: str, symptom: str
):
    """A version that installs without complaint and breaks Prefect later is a failure with the symptom."""
    installed = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: "99.1" if name == package else installed(name))
    check = look(settings, params_file, package)
    assert check.level == "fail"
    assert symptom in check.text


def test_another_version_than_the_lock_files_is_a_warning(
    settings: Settings, params_file: Path, monkeypatch: pytest.MonkeyPatch
):
    """Inside the bounds it may work, but it is not what was tested."""
    monkeypatch.setattr(doctor, "_pins", lambda: {"dvc": "3.0.0"})
    check = look(settings, params_file, "dvc")
    assert check.level == "warn"
    assert "the lock file has 3.0.0" in check.text


def test_a_missing_requirement_is_a_failure(settings: Settings, params_file: Path, monkeypatch: pytest.MonkeyPatch):
    """Of those that pyproject.toml declares, also the ones that are not shown otherwise."""
    installed = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: "" if name == "jinja2" else installed(name))
    assert look(settings, params_file, "jinja2").level == "fail"


def test_a_place_that_cannot_be_written_is_a_failure(tmp_path: Path, params_file: Path):
    """With the place, the reason and the variable that names another one."""
    (tmp_path / "file").write_text("")
    check = look(Settings(var_dir=tmp_path / "file" / "var"), params_file, "var")
    assert check.level == "fail"
    assert "Not a directory" in check.text
    assert "POTSTILL_VAR_DIR" in check.hint


def test_a_store_elsewhere_is_tried_as_well(settings: Settings, tmp_path: Path, params_file: Path):
    """A local store outside var has a check of its own."""
    (tmp_path / "file").write_text("")
    elsewhere = settings.model_copy(update={"store": str(tmp_path / "file" / "store")})
    assert look(elsewhere, params_file, "store folder").level == "fail"


def test_an_unknown_scheme_names_the_known_ones(settings: Settings, params_file: Path):
    """It is never taken for a folder of the local disk, and a password is not shown."""
    check = look(settings.model_copy(update={"store": "ftp://me:secret@host/x"}), params_file, "store")
    assert check.level == "fail"
    assert "'ftp'" in check.text
    assert "file" in check.hint
    assert "secret" not in check.text


def test_a_server_that_does_not_answer_is_a_failure(
    settings: Settings, params_file: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the variable that names it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    check = look(settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"}), params_file, "MLflow")
    assert check.level == "fail"
    assert "MLFLOW_TRACKING_URI" in check.text


def test_bad_parameters_are_a_failure_with_all_problems(settings: Settings, tmp_path: Path):
    """The same message as a run would give."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("floor: 0.5", "flor: 0.5"))
    check = look(settings, bad, "parameters")
    assert check.level == "fail"
    assert "gate.flor" in check.text
    assert "gate.floor" in check.text


def test_telemetry_that_the_user_left_on_is_a_warning(
    settings: Settings, params_file: Path, monkeypatch: pytest.MonkeyPatch
):
    """DO_NOT_TRACK=1 looks right, but one vendor wants exactly 'true'."""
    assert set(TELEMETRY_OFF) <= set(os.environ)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    check = look(settings, params_file, "telemetry")
    assert check.level == "warn"
    assert "DO_NOT_TRACK=1 (not true)" in check.text


def test_more_threads_than_cores_is_a_warning(settings: Settings, params_file: Path):
    """With the value that fits."""
    check = look(settings.model_copy(update={"num_threads": 10_000}), params_file, "compute")
    assert check.level == "warn"
    assert "POTSTILL_NUM_THREADS=" in check.hint


def test_a_file_system_without_locks_is_noticed(settings: Settings, params_file: Path, monkeypatch: pytest.MonkeyPatch):
    """The store's single flight relies on them."""

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    check = look(settings, params_file, "var")
    assert check.level == "fail"
    assert "No locks available" in check.text


def test_a_failure_is_the_exit_code_and_the_last_line(capsys: pytest.CaptureFixture[str]):
    """1, for scripts; markup in a message is shown as it is."""
    assert print_diagnosis([Check("a", "ok", "fine"), Check("b", "fail", "[red]odd[/red]", "do this")]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 checks failed" in out
    assert "[red]odd[/red]" in out
    assert "do this" in out


@pytest.mark.parametrize("tells", [True, False])
def test_a_server_that_keeps_its_automations_to_itself_is_not_taken_for_one_without(tells: bool):
    """Where it says that there are none, it is a warning."""

    class Prefect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            what = self.path.split("/")[-2]
            found = {
                "flows": [{"id": "1", "name": "refresh"}],
                "deployments": [
                    {"flow_id": "1", "name": "nightly", "paused": False, "status": "READY", "work_pool_name": None}
                ],
            }
            self.send_response(200 if tells or what in found else 503)
            self.end_headers()
            self.wfile.write(json.dumps(found.get(what, [])).encode())

        def log_message(self, *_: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Prefect) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = list(doctor._schedules(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()

    assert [(check.level, check.text.partition(" ")[0]) for check in found] == (
        [("ok", "refresh/nightly"), ("warn", "the")] if tells else []
    )
