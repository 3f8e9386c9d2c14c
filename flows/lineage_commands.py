"""`potstill lineage`: what exactly made a model, on the terminal, as JSON and as a page with a drawing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from components import registry, tracking
from components.ancestry import Ancestor, Ancestry, ancestry_of
from components.artifacts.store import Store
from components.errors import BadInputError
from components.promotion.transaction import CHALLENGER, CHAMPION, PREVIOUS
from components.settings import Settings
from flows.console import duration, saved_text
from flows.promotion_commands import Place

if TYPE_CHECKING:
    from rich.tree import Tree

    from components.promotion.journal import Line
    from components.registry import RegisteredVersion
    from components.report.chain import Card

SHORT = 12
TITLES = {
    "data": "data",
    "validate": "validation",
    "teacher": "teacher",
    "fold_teachers": "teachers of folds",
    "soft_targets": "soft targets",
    "student": "student",
    "evaluate": "evaluation",
}


def version_of(place: Place, named: str) -> RegisteredVersion:
    """A version by its number or alias, or by the run that made it; BadInputError where there is none."""
    if named.isdigit():
        found = registry.get_version(place.tracking_uri, place.model, named)
    else:
        found = registry.current(place.tracking_uri, place.model, named) or _of_run(place, named)
    if found is None:
        raise BadInputError(
            f"{place.model!r} has no version {named!r}; a number, one of {CHAMPION}, {PREVIOUS}, {CHALLENGER} if it stands, "
            "or the name or id of a run in Prefect or MLflow"
        )
    return found


def _of_run(place: Place, named: str) -> RegisteredVersion | None:
    """What a run came to, by the name or id that Prefect gave it or the id that MLflow did."""
    asked = ({"flow_run.name": named}, {"flow_run.id": named})
    run = tracking.get_run(place.tracking_uri, named) or next(
        filter(None, (tracking.find_run(place.tracking_uri, tags) for tags in asked)), None
    )
    digest = run.tags.get("student.digest", "") if run else ""
    found = registry.find_version(place.tracking_uri, place.model, digest) if digest else None
    return registry.get_version(place.tracking_uri, place.model, found.version) if found else None


def lineage_of(place: Place, named: str) -> Ancestry:
    """Everything that is known of how that version came about."""
    version = version_of(place, named)
    return ancestry_of(version, Store(Settings()), place.journal.lines(place.model), place.tracking_uri)


def show_lineage(place: Place, named: str, *, as_json: bool, html: Path | None) -> None:
    """Print the whole chain, as a tree or as JSON; with *html*, draw it there too."""
    from rich.console import Console

    found = lineage_of(place, named)
    if html is not None:
        write_page(html, found)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, sort_keys=True))  # noqa: T201 (for programs)
        return
    console = Console()
    console.print(lineage_tree(found))
    console.print(cost_in_words(found), highlight=False)
    if html is not None:
        console.print(f"drawn in {html}", highlight=False, soft_wrap=True)


def write_page(file: Path, found: Ancestry) -> None:
    """BadInputError where *file* cannot be written."""
    from components.report.chain import page

    text = page(
        title_of(found),
        f"{run_in_words(found)}; {cost_in_words(found)}",
        list(cards(found)),
        reasons=_reasons(found),
        made_with=dict(made_with(found)),
        parameters=yaml.safe_dump(dict(found.parameters), sort_keys=False),
    )
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"--html {file} cannot be written: {error.strerror}") from error


def _reasons(found: Ancestry) -> Sequence[Mapping[str, object]]:
    """Those that first made it champion; none for one that never was."""
    own = (line.decision for line in found.lines if line.decision and line.version == found.version.version)
    return next(own, {}).get("reasons", ())


def lineage_tree(found: Ancestry) -> Tree:
    """From the version down to the data, each with what names it for good."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(title_of(found), style="bold"), guide_style="dim")
    root.add(Text(f"digest {found.version.digest[:SHORT]}"))
    for card in reversed([card for card in cards(found) if card.name != "version"]):
        branch = root.add(Text(card.title, style="cyan"))
        rows = [*card.facts, *([_names_in_short(card)] if card.names else []), card.cost]
        for row in filter(None, rows):
            branch.add(Text(row))
    made = root.add(Text("made with", style="cyan"))
    for name, value in made_with(found):
        made.add(Text(f"{name}: {_shortened(value)}"))
    return root


def _names_in_short(card: Card) -> str:
    return "  ".join(f"{label} {value[:SHORT]}" for label, value in card.names.items())


def _shortened(value: str) -> str:
    """Digests as far as people compare them."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", value)


def title_of(found: Ancestry) -> str:
    stands = f", {' and '.join(found.version.aliases)}" if found.version.aliases else ""
    return f"{found.version.name} version {found.version.version}{stands}"


def cost_in_words(found: Ancestry) -> str:
    """What all of it took, and what the run that registered it was spared."""
    unknown = [TITLES[each.step] for each in found.ancestors if each.seconds is None]
    but = f" (not known: {', '.join(unknown)})" if unknown else ""
    spared = f", of which its run found {duration(found.found_seconds)} done" if found.found_seconds else ""
    cache = f". {saved_text(found.saved)}" if found.saved else ""
    return f"all of it took {duration(found.seconds)}{but}{spared}{cache}"


def run_in_words(found: Ancestry) -> str:
    """Which run registered it, and who or what started that."""
    trigger, deployment, who = (found.tag(f"flow_run.{name}") for name in ("trigger", "deployment", "who"))
    by = f"by {trigger}" if trigger else "from a deployment" if deployment else "by hand"
    of = f" of deployment {deployment}" if deployment else ""
    return f"{found.tag('flow_run.name') or 'unknown run'}, started {by}{of}{f' as {who}' if who else ''}"


def made_with(found: Ancestry) -> Iterator[tuple[str, str]]:
    """Label -> value of what is no step: run, code, parameters, packages, machine."""
    yield "run", run_in_words(found)
    if found.tag("flow_run.id"):
        yield "run in Prefect", found.tag("flow_run.id")
    dirty = " with uncommitted changes" if found.tag(registry.DIRTY_TAG) == "true" else ""
    yield "code", f"commit {found.tag('code.commit') or 'unknown'}{dirty}"
    yield "digest of the code", found.tag("code.digest")
    yield "digest of the parameters", found.tag("params.sha256")
    yield "digest of constraints.txt", found.tag("lock.sha256") or "unknown"
    student = found.ancestor("student")
    if student and student.fingerprint:
        yield "machine and builds", ", ".join(f"{name} {value}" for name, value in student.fingerprint.items())


def cards(found: Ancestry) -> Iterator[Card]:
    """From the data to the version; the decision before the version that it is about."""
    from components.report.chain import Card

    facts = _facts(found)
    for each in found.ancestors:
        names = {"digest": each.digest, "key": each.key}
        yield Card(each.step, TITLES[each.step], facts[each.step], names, _cost(found, each), found.was_found(each))
    yield Card("decision", "decision", tuple(_decided(found)), {})
    version = found.version
    yield Card("version", f"{version.name} version {version.version}", (_stands(found),), {"digest": version.digest})


def _stands(found: Ancestry) -> str:
    return f"stands as {', '.join(found.version.aliases)}" if found.version.aliases else "no alias stands on it"


def _cost(found: Ancestry, each: Ancestor) -> str:
    took = "" if each.seconds is None else f"{duration(each.seconds)}, "
    how = "found: made" if found.was_found(each) else "made"
    by = f"{how} by {each.producer}" if each.producer else "nobody knows what it cost"
    return f"{took}{by}{'' if each.stored else '; not in this store'}"


def _decided(found: Ancestry) -> Iterator[str]:
    if found.decision:
        yield found.decision
    yield from map(_told, found.lines)
    if not found.lines:
        yield "no change of champion in the journal of this place"


def _told(line: Line) -> str:
    moved = f"{line.previous_version or '–'} → {line.version}"
    why = f": {line.reason}" if line.reason else ""
    return f"{line.at[:16].replace('T', ' ')} UTC  {line.kind} {moved} by {line.who}{why}"


def _facts(found: Ancestry) -> Mapping[str, tuple[str, ...]]:
    """Step -> what people want to know of its result; what MLflow was not told is left out."""
    params, metric = found.parameters, found.parameters["gate"]["metric"]
    return {
        "data": (
            f"{found.tag('data.path')} at {found.tag('data.revision')} of {found.tag('data.repository')}",
            f"commit {found.tag('data.commit')[:SHORT]}, content {found.tag('data.md5')[:SHORT]}",
            *_told_of(found, "data", {"num_samples": "samples"}),
        ),
        "validate": tuple(_told_of(found, "validate", {"num_rows": "rows", "num_checks": "checks passed"})),
        "teacher": (*_teacher(found), *_score(found, "teacher", metric)),
        "fold_teachers": (f"{params['teacher']['folds']} folds",),
        "soft_targets": tuple(
            _told_of(found, "soft_targets", {"live/kl.T1.mean_kl": "nats from the live teacher at T 1"})
        ),
        "student": (
            f"{params['student']['model']['name']}, objective {params['student']['objective']['name']}, "
            f"seed {params['student']['seed']}",
            *_score(found, "student", metric),
        ),
        "evaluate": tuple(_measured(found, metric)),
    }


def _told_of(found: Ancestry, step: str, wanted: Mapping[str, str]) -> Iterator[str]:
    metrics = _metrics(found, step)
    told = [f"{_figure(metrics[name])} {what}" for name, what in wanted.items() if name in metrics]
    if told:
        yield ", ".join(told)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:.2g}"


def _metrics(found: Ancestry, step: str) -> Mapping[str, float]:
    each = found.ancestor(step)
    return each.metrics if each else {}


def _teacher(found: Ancestry) -> Iterator[str]:
    source, model = found.parameters["teacher"]["source"], found.parameters["teacher"]["model"]
    yield f"{model['name']}, trained here" if source["kind"] == "train" else f"from {source['kind']}"
    yield from json.loads(found.tag("teacher.uris") or "[]")
    if found.teacher:
        yield f"{found.teacher.name} version {found.teacher.version}"


def _score(found: Ancestry, step: str, metric: str) -> Iterator[str]:
    value = _metrics(found, step).get(f"final/validation_{metric}")
    if value is not None:
        yield f"validation {metric} {value:.4f}"


def _measured(found: Ancestry, metric: str) -> Iterator[str]:
    metrics = _metrics(found, "evaluate")
    arms = {"student": "student", "teacher": "teacher", "baseline": "hard labels alone"}
    told = [f"{title} {metrics[f'{arm}/{metric}']:.4f}" for arm, title in arms.items() if f"{arm}/{metric}" in metrics]
    if told:
        yield f"{metric} on {metrics.get('holdout/num_rows', 0):,.0f} test samples"
        yield from told
