"""Compare the challenger with the champion, and let it take its place if the rule holds:

``python -m training.promote --config conf/local.toml [--challenger-version N] [--as-of TIME]
[--why TEXT] [--who NAME] [--force | --dry-run]``; back to the previous champion:
``python -m training.promote --config conf/local.toml --rollback [--why TEXT]``.

Status 0: the alias moved (or would have, with ``--dry-run``). Status 10: the rule does not hold,
the alias stays. Status 11: there is no challenger. Any other is a failure: 2 with one line that
says why, 1 with a traceback.
"""

import argparse
import getpass
import sys
from datetime import UTC, datetime

from mlflow.exceptions import MlflowException

from conf.settings import Settings, settings_from_arguments, stop
from jobs.model import ModelRefused
from training.alias_moves import FORCED, PROMOTION, AliasMove
from training.aliases import AliasError, Aliases, NoChallenger
from training.compare import compare, find_contender
from training.dataset import NoMoment, moment_of
from training.figures import figures_of
from training.promotion_report import Assessment, log_page, page, rows_of, write_page
from training.promotion_rule import clauses
from training.versions import VersionNotFound

RULE_DOES_NOT_HOLD, NO_CHALLENGER = 10, 11
"""Exit statuses of ordinary days; no interpreter and no shell ends with them by itself."""

_LINE = "  {:<32} {:>28} {:>28} {:>30}"


def main() -> int:
    """Parse arguments; promote or roll back."""
    settings, arguments = settings_from_arguments(_parser())
    who = arguments.who or _user()
    try:
        aliases = Aliases(settings, lambda: datetime.now(UTC))
        if not arguments.dry_run:
            found = aliases.catch_up()
            if found:
                print(f"recorded: {found.why}")
        if arguments.rollback:
            move = aliases.roll_back(who, arguments.why or "no reason given")
            print(f"rolled back: {settings.registry.alias} moved {_from_to(move)}")
            return 0
        return _promote(settings, arguments, aliases, who)
    except NoChallenger as error:
        stop(str(error), status=NO_CHALLENGER)
    except (AliasError, VersionNotFound, ModelRefused, MlflowException, NoMoment, OSError) as error:
        stop(str(error), status=2)


def assess(
    settings: Settings, aliases: Aliases, champion: str, challenger: str, as_of: datetime
) -> Assessment:
    """Compare two versions, and hold the figures against the rule.

    Raises:
        AliasError, training.versions.VersionNotFound, jobs.model.ModelRefused: a version cannot be
            had, or cannot judge.
    """
    tags = aliases.tags(challenger)
    comparison = compare(
        find_contender(aliases.client, champion, settings),
        find_contender(aliases.client, challenger, settings),
        settings,
        as_of,
    )
    figures = figures_of(comparison, settings)
    rule = clauses(figures.measures, comparison.frauds, comparison.payments, tags, settings.promote)
    return Assessment(comparison, figures, rule)


def _promote(settings: Settings, arguments: argparse.Namespace, aliases: Aliases, who: str) -> int:
    champion = aliases.champion_if_any() if arguments.force else aliases.champion()
    challenger = arguments.challenger_version or aliases.challenger()
    if challenger == champion:
        raise AliasError(f"v{challenger} is the champion already")
    if champion is None:
        return _force(settings, arguments, aliases, who, None, "there is no champion")
    try:
        assessment = assess(settings, aliases, champion, challenger, moment_of(arguments.as_of))
    except (ModelRefused, VersionNotFound) as error:
        if not arguments.force:
            raise
        return _force(settings, arguments, aliases, who, champion, str(error))
    moves = assessment.holds or arguments.force
    kind = PROMOTION if assessment.holds else FORCED
    why = arguments.why or (_reason(assessment) if moves else "no reason given")
    outcome = f"v{challenger} takes the place of v{champion}." if moves else f"v{champion} stays."
    if arguments.dry_run:
        outcome = f"A dry run: v{champion} stays for now."
    elif moves and kind == FORCED:
        outcome = f"By force, {outcome}"
    html = page(assessment, outcome, who, why, settings)
    path = write_page(html, assessment.comparison, settings.promote.reports)
    run_id = log_page(html, assessment, settings)
    print(*_lines(assessment, settings), outcome, f"report: {path}", sep="\n")
    if moves and not arguments.dry_run:
        move = aliases.promote(challenger, champion, kind, who, why, run_id)
        print(f"{move.kind}: {settings.registry.alias} moved {_from_to(move)}")
    return 0 if moves else RULE_DOES_NOT_HOLD


def _force(
    settings: Settings,
    arguments: argparse.Namespace,
    aliases: Aliases,
    who: str,
    champion: str | None,
    trouble: str,
) -> int:
    """Move the alias though the two cannot be compared: the champion may be broken, or gone."""
    challenger = arguments.challenger_version or aliases.challenger()
    find_contender(aliases.client, challenger, settings)  # it can be had, and judges an example
    why = f"{arguments.why or 'no reason given'}; not compared: {trouble}"
    move = aliases.promote(challenger, champion, FORCED, who, why, None)
    print(f"not compared: {trouble}")
    print(f"{move.kind}: {settings.registry.alias} moved {_from_to(move)}")
    return 0


def _from_to(move: AliasMove) -> str:
    return f"from v{move.from_version} to v{move.to_version}"


def _reason(assessment: Assessment) -> str:
    failed = [clause.asked for clause in assessment.clauses if not clause.holds]
    return f"no reason given; not fulfilled: {', '.join(failed)}" if failed else "the rule holds"


def _lines(assessment: Assessment, settings: Settings) -> list[str]:
    comparison = assessment.comparison
    champion, challenger = comparison.champion.contender, comparison.challenger.contender
    lines = [
        f"{challenger.label} against {champion.label} on {comparison.payments:,} payments after "
        f"{comparison.after:%Y-%m-%d %H:%M:%S} UTC, {comparison.frauds:,} of them frauds; "
        f"{comparison.immature:,} more have not matured"
    ]
    for verdict in (comparison.champion, comparison.challenger):
        contender = verdict.contender
        if not contender.is_end_told:
            lines.append(
                f"{contender.label} does not tell until when it was trained: its registration at "
                f"{contender.trained_until:%Y-%m-%d %H:%M:%S} UTC is taken for it"
            )
        if verdict.stored:
            lines.append(
                f"{contender.label} gave {verdict.agreeing:,} of {verdict.stored:,} scores in the "
                "stream as it gives them now"
            )
    lines.append(_LINE.format("", "champion", "challenger", "difference"))
    lines += [
        _LINE.format(
            row.name,
            *(
                f"{value} ({interval})" if interval else value
                for value, interval in (row.champion, row.challenger, row.difference)
            ),
        )
        for row in rows_of(assessment.figures, settings)
    ]
    lines += [
        f"{'✓' if clause.holds else '✗'} {clause.asked}: {clause.found}"
        for clause in assessment.clauses
    ]
    return [*lines, "the rule holds" if assessment.holds else "the rule does not hold"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Let the challenger take the champion's place if it judges better."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--force", action="store_true", help="also where the rule does not hold")
    what.add_argument("--dry-run", action="store_true", help="compare and report, move nothing")
    what.add_argument("--rollback", action="store_true", help="back to the previous champion")
    parser.add_argument("--challenger-version", help="in the place of the challenger's alias")
    parser.add_argument("--why", help="kept with the move")
    parser.add_argument("--who", help="kept with the move (default: the user's name)")
    parser.add_argument(
        "--as-of",
        help="judge with what was known then: an ISO time, UTC where it has no zone (default: now)",
    )
    return parser


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        stop("the user has no name here: pass --who NAME", status=2)


if __name__ == "__main__":
    sys.exit(main())
