"""Moves of the champion's alias in the registry, each recorded in `alias_moves`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conf.settings import Settings
from jobs.model_registry import SET_ASIDE, require_registry_file
from training.alias_moves import FOUND, ROLLBACK, AliasMove, AliasMoves, champions

NOBODY = "none"
"""`from_version` of a move where there was no champion."""


class AliasError(Exception):
    """An alias cannot be read or moved; the message says why."""


class NoChallenger(AliasError):
    """The registry answers that no version is challenger."""


class Aliases:
    """The aliases of the settings' model, and the table of their moves. One process at a time moves
    them.

    Raises:
        AliasError: the registry is not there.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._registry, self._clock = settings.registry, clock
        with self._told():
            require_registry_file(self._registry.tracking_uri)
            mlflow.set_tracking_uri(self._registry.tracking_uri)
            self.client = MlflowClient(self._registry.tracking_uri)
        self.moves = AliasMoves(settings.warehouse)

    def champion(self) -> str:
        """The version that scores.

        Raises:
            AliasError: there is none, or the registry does not answer.
        """
        return self._version_of(self._registry.alias)

    def champion_if_any(self) -> str | None:
        """The version that scores; None where its alias, or the version, was deleted.

        Raises:
            AliasError: the registry does not answer.
        """
        return self._aliases().get(self._registry.alias)

    def challenger(self) -> str:
        """The version that scores in shadow.

        Raises:
            NoChallenger: there is none.
            AliasError: the registry does not answer.
        """
        return self._version_of(self._registry.challenger_alias, NoChallenger)

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version.

        Raises:
            AliasError: there is no such version, or the registry does not answer.
        """
        with self._told():
            return dict(self.client.get_model_version(self._registry.model_name, version).tags)

    def catch_up(self) -> AliasMove | None:
        """Record a move that ``training.promote`` did not make, or did not finish: where the alias
        stands elsewhere than its last move says. A challenger's alias on the champion, which a
        promotion that died left there, is removed.

        Returns:
            The move that was recorded, None where all is in order.

        Raises:
            AliasError: the registry does not answer.
        """
        champion = self.champion_if_any()
        if champion is None:
            return None
        if self._aliases().get(self._registry.challenger_alias) == champion:
            self._remove_challenger()
        known = self._known_moves()
        if not known or known[-1].to_version == champion:
            return None
        why = (
            f"the alias was found at v{champion}: it was moved by hand, or the move to "
            f"v{known[-1].to_version} did not happen"
        )
        return self._record(known[-1].to_version, champion, FOUND, "unknown", why)

    def promote(
        self, version: str, champion: str | None, kind: str, who: str, why: str, run_id: str | None
    ) -> AliasMove:
        """Make ``version`` the champion in the place of ``champion`` (None: there is none); it is
        no challenger any more.

        Raises:
            AliasError: the champion is another one by now, or the registry does not answer.
        """
        found = self.champion_if_any()
        if found != champion:
            raise AliasError(
                f"the champion is v{found} by now, and v{version} was compared with v{champion}: "
                "compare again"
            )
        move = self._record(champion or NOBODY, version, kind, who, why, run_id)
        self._set(version)
        if self._aliases().get(self._registry.challenger_alias) == version:
            self._remove_challenger()
        return move

    def roll_back(self, who: str, why: str) -> AliasMove:
        """Make the previous champion the champion again; see ``training.alias_moves.champions``.
        One that is not in the registry any more, or was set aside in the stream, is passed over.

        Raises:
            AliasError: none is known that could score, or the registry does not answer.
        """
        stack = champions(self._known_moves())
        if len(stack) < 2:
            raise AliasError(
                "no earlier champion is known: `alias_moves` holds "
                f"{len(self._known_moves())} moves of {self._registry.alias}, and none that could "
                "be taken back"
            )
        self._aliases()  # a registry that is away has every version, and tells of none
        unfit: list[str] = []
        for previous in reversed(stack[:-1]):
            reason = self._unfit(previous)
            if reason is None:
                move = self._record(stack[-1], previous, ROLLBACK, who, "; ".join([why, *unfit]))
                self._set(previous)
                return move
            unfit.append(f"v{previous} was passed over: {reason}")
        raise AliasError("no earlier champion can score; " + "; ".join(unfit))

    def _unfit(self, version: str) -> str | None:
        """Why a version cannot be champion again, if so."""
        try:
            tags = self.tags(version)
        except AliasError:
            return "it is not in the registry"
        return f"it was set aside, {tags[SET_ASIDE]}" if SET_ASIDE in tags else None

    def _known_moves(self) -> list[AliasMove]:
        return self.moves.of(self._registry.model_name, self._registry.alias)

    def _record(
        self, old: str, new: str, kind: str, who: str, why: str, run_id: str | None = None
    ) -> AliasMove:
        name, alias = self._registry.model_name, self._registry.alias
        move = AliasMove(self._clock(), name, alias, old, new, kind, who, why, run_id)
        self.moves.append(move)
        return move

    def _set(self, version: str) -> None:
        with self._told():
            self.client.set_registered_model_alias(
                self._registry.model_name, self._registry.alias, version
            )

    def _remove_challenger(self) -> None:
        with self._told():
            self.client.delete_registered_model_alias(
                self._registry.model_name, self._registry.challenger_alias
            )

    def _version_of(self, alias: str, missing: type[AliasError] = AliasError) -> str:
        found = self._aliases()
        if alias not in found:
            there = ", ".join(f"{name} (v{version})" for name, version in sorted(found.items()))
            raise missing(
                f"no version of {self._registry.model_name} has the alias {alias}; "
                f"there is {there or 'no alias'}"
            )
        return found[alias]

    def _aliases(self) -> dict[str, str]:
        with self._told():
            model = self.client.get_registered_model(self._registry.model_name)
        return {name: str(version) for name, version in model.aliases.items()}

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, OSError) as error:
            raise AliasError(f"the registry at {self._registry.tracking_uri}: {error}") from error
