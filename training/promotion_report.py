"""The comparison of two versions as one HTML page, plots and all, and as a run in MLflow."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import mlflow
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure

from conf.settings import Settings
from training.compare import Comparison
from training.figures import Estimate, Figures
from training.promotion_plots import COLOURS, comparison_plots
from training.promotion_rule import Clause
from training.registry import open_experiment

ARTIFACT = "promotion.html"

_ROWS = (
    ("average_precision", "Average precision", ".4f"),
    ("recall_at_budget", "Recall with {alerts_per_day:g} looks a day", ".3f"),
    ("card_precision_at_k", "Card precision, first {card_precision_k} a day", ".3f"),
    ("precision", "Precision of its hits", ".3f"),
    ("recall", "Recall of its hits", ".3f"),
    ("alerts_per_day", "Hits a day", ",.2f"),
    ("money_saved_usd", "Money saved, USD", ",.0f"),
    ("money_lost_usd", "Money lost, USD", ",.0f"),
    ("expected_calibration_error", "Expected calibration error", ".5f"),
)


@dataclass(frozen=True)
class Assessment:
    """A comparison, its figures, and the rule's clauses about them."""

    comparison: Comparison
    figures: Figures
    clauses: tuple[Clause, ...]

    @property
    def holds(self) -> bool:
        """Whether the rule holds: every clause of it."""
        return all(clause.holds for clause in self.clauses)


@dataclass(frozen=True)
class Row:
    """A measure as the table shows it: each figure with its interval ("" where there is none)."""

    name: str
    champion: tuple[str, str]
    challenger: tuple[str, str]
    difference: tuple[str, str]


_templates = Environment(
    loader=PackageLoader("training"), autoescape=select_autoescape(["html.j2"]), trim_blocks=True
)


def rows_of(figures: Figures, settings: Settings) -> list[Row]:
    """The measures in words and digits."""
    train = settings.train.model_dump()
    return [
        Row(
            name.format(**train),
            _told(measure.champion, digits),
            _told(measure.challenger, digits),
            _told(measure.difference, f"+{digits}"),
        )
        for key, name, digits in _ROWS
        for measure in (figures.measures[key],)
    ]


def _told(estimate: Estimate, digits: str) -> tuple[str, str]:
    if math.isnan(estimate.value):
        return "none", ""
    if math.isnan(estimate.low):
        return f"{estimate.value:{digits}}", ""
    return f"{estimate.value:{digits}}", f"{estimate.low:{digits}} to {estimate.high:{digits}}"


def page(assessment: Assessment, outcome: str, who: str, why: str, settings: Settings) -> str:
    """The report as HTML, without anything that lies elsewhere.

    Args:
        assessment: what it tells of.
        outcome: what becomes of the alias, in a sentence.
        who: asked for it.
        why: in their words.
        settings: of the comparison.
    """
    comparison = assessment.comparison
    labels = comparison.champion.judged.labels
    plots = [
        (caption, _inlined(figure))
        for caption, figure in (
            comparison_plots(comparison, assessment.figures, settings)
            if labels.any() and not labels.all()
            else ()
        )
    ]
    return _templates.get_template("promotion.html.j2").render(
        assessment=assessment,
        comparison=comparison,
        contenders=(
            ("champion", comparison.champion, COLOURS[0]),
            ("challenger", comparison.challenger, COLOURS[1]),
        ),
        rows=rows_of(assessment.figures, settings),
        plots=plots,
        outcome=outcome,
        who=who,
        why=why,
        settings=settings,
    )


def _inlined(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def write_page(html: str, comparison: Comparison, folder: Path) -> Path:
    """Write the report into ``folder``, named for the versions and the time it is as of."""
    folder.mkdir(parents=True, exist_ok=True)
    versions = "-".join(
        f"v{verdict.contender.judge.version}"
        for verdict in (comparison.champion, comparison.challenger)
    )
    path = folder / f"promotion-{versions}-{comparison.as_of:%Y%m%dT%H%M%SZ}.html"
    path.write_text(html, encoding="utf-8")
    return path


def log_page(html: str, assessment: Assessment, settings: Settings) -> str:
    """Keep the report and its figures as a run of the experiment; return the run's id."""
    comparison = assessment.comparison
    champion, challenger = (
        verdict.contender.judge.version for verdict in (comparison.champion, comparison.challenger)
    )
    figures = {
        f"{role}_{measure.name}": getattr(measure, role).value
        for measure in assessment.figures.measures.values()
        for role in ("champion", "challenger", "difference")
    }
    open_experiment(settings.registry)
    with mlflow.start_run(run_name=f"v{challenger} against v{champion}") as run:
        mlflow.set_tags({"kind": "promotion", "rule_holds": str(assessment.holds).lower()})
        mlflow.log_params(
            {
                "champion": champion,
                "challenger": challenger,
                "as_of": comparison.as_of.isoformat(),
                "after": comparison.after.isoformat(),
                "payments": comparison.payments,
                "frauds": comparison.frauds,
                **settings.promote.model_dump(mode="json"),
            }
        )
        mlflow.log_metrics({k: v for k, v in figures.items() if not math.isnan(v)})
        mlflow.log_text(html, ARTIFACT)
    return str(run.info.run_id)
