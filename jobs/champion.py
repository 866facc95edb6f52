"""Which version scores: looks the alias up beside the stream, and holds the last good version."""

import logging
import threading

from jobs.model import ModelRefused
from jobs.model_cache import ModelCache
from jobs.model_registry import (
    SET_ASIDE,
    NoAlias,
    Registry,
    RegistryError,
    VersionReference,
    first_line,
)
from jobs.scoring import ModelVersion

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
CHAMPION, CHALLENGER = "champion", "challenger"


class NoModel(Exception):
    """No version can score: the alias is not set and none ran here before."""


class AliasWatcher:
    """Keeps ``found`` at the version that an alias points to, from a thread of its own.

    A version that does not fit is refused once, by name, and the current one goes on; so it does
    while the registry is away.

    Args:
        role: what the alias is to the job, for messages: `champion` or `challenger`.
    """

    def __init__(
        self,
        registry: Registry,
        cache: ModelCache,
        poll_seconds: float,
        patience_seconds: float = PATIENCE_SECONDS,
        role: str = CHAMPION,
    ) -> None:
        self._registry, self._cache, self._role = registry, cache, role
        self._poll_seconds, self._patience_seconds = poll_seconds, patience_seconds
        self._refused: VersionReference | None = None
        self._refusal = ""
        self._delayed: VersionReference | None = None
        self._trouble = ""
        self._to_tag: list[tuple[VersionReference, str]] = []
        self._ended = threading.Event()
        self._settled = threading.Event()
        self._settled.set()
        self._current: ModelVersion | None = None
        self._reference: VersionReference | None = None
        self._proved: ModelVersion | None = None
        self.previous: ModelVersion | None = None
        self._watching: threading.Thread | None = None

    @property
    def found(self) -> ModelVersion | None:
        """The version that scores now, if there is one; waits up to ``patience_seconds`` for one
        that is being fetched, once.
        """
        if not self._settled.wait(self._patience_seconds):
            log.warning(
                "the new %s takes long to fetch; going on without waiting for it", self._role
            )
            self._settled.set()
        return self._current

    @property
    def current(self) -> ModelVersion:
        """``found``.

        Raises:
            NoModel: there is none.
        """
        current = self.found
        if current is None:
            raise NoModel(
                "no model to score with: the registry has no usable version under the alias, "
                "and none ran here before. Train one: spark-submit --properties-file "
                "spark-defaults.conf training/train.py --config … --data FILE.csv"
                + (f" ({self._trouble})" if self._trouble else "")
            )
        return current

    def start(self) -> None:
        """Find the version to begin with, then watch until ``stop``."""
        self.look()
        if self._current is None and self._role == CHAMPION:
            try:
                self._current = self._cache.load()
            except ModelRefused as refusal:
                log.warning("the cache is of no use: %s", refusal)
            if self._current is not None:
                log.warning("going on with %s from the cache", self._current.label)
                self.previous = self._cached_previous()
        self._watching = threading.Thread(target=self._watch, name=self._role, daemon=True)
        self._watching.start()

    def stop(self) -> None:
        """End the watching, once the registry was told what was set aside."""
        self._ended.set()
        if self._watching is not None:
            self._watching.join()
        self._tag()

    def has(self, version: ModelVersion) -> bool:
        """Whether ``version`` is the current one."""
        return self._current is version

    def proved(self, version: ModelVersion) -> None:
        """``version`` scored a micro-batch: one to fall back on, should the next one fail."""
        if self._proved is not version and self.has(version):
            self._proved = version
            try:
                self._cache.proved(version)
            except OSError as error:
                log.warning("%s cannot be kept to fall back on: %s", version.label, error)

    def set_aside(self, version: ModelVersion, reason: str) -> None:
        """Use ``version`` no more: the one before it goes on, if there is one. The registry is told
        at the next look.
        """
        if not self.has(version):
            return
        reference = self._reference or VersionReference(version.name, version.version, {})
        self._refused, self._refusal = reference, f"{version.label} is set aside: {reason}"
        self._to_tag.append((reference, reason))
        self._current, self.previous = self.previous, None
        try:
            self._cache.forget()
        except OSError as error:
            log.warning("the cache still holds %s: %s", version.label, error)

    def look(self) -> None:
        """Look the alias up once and take over what is new and fits."""
        self._tag()
        try:
            reference = self._registry.aliased()
        except NoAlias as error:
            if self._role == CHAMPION:
                self._tell(f"the registry names no version: {error}")
            elif self._current is not None:
                log.info("%s is no longer %s", self._current.label, self._role)
                self._current = None
            return
        except RegistryError as error:
            if self._role == CHAMPION:  # which says it for both
                self._tell(f"the registry names no version: {error}")
            return
        if not self._is_new(reference):
            self._trouble = self._refusal if reference == self._refused else ""
            return
        # A micro-batch that starts while the version loads gets the new one; it does not wait for
        # the second try of a version that could not be fetched.
        if reference != self._delayed:
            self._settled.clear()
        try:
            self._take_over(reference)
        finally:
            self._settled.set()

    def _tag(self) -> None:
        while self._to_tag:
            try:
                self._registry.set_aside(*self._to_tag[0])
            except RegistryError as error:
                self._tell(f"the registry cannot be told what was set aside: {error}")
                return
            self._to_tag.pop(0)

    def _take_over(self, reference: VersionReference) -> None:
        try:
            if SET_ASIDE in reference.tags:
                raise ModelRefused(f"it was set aside: {reference.tags[SET_ASIDE]}")
            current = self._cache.fetch(self._registry, reference)
        except ModelRefused as refusal:
            self._refused, self._refusal = reference, f"{reference.label} is refused: {refusal}"
            self._tell(self._refusal)
        except (RegistryError, OSError) as error:
            self._delayed = reference
            self._tell(f"{reference.label} cannot be fetched: {first_line(error)}")
        else:
            if self._role == CHAMPION:
                self.previous = self._cached_previous()
            self._current, self._reference = current, reference
            self._refused = self._delayed = None
            self._trouble = ""
            log.info("%s is %s (threshold %.4g)", self._role, current.label, current.threshold)

    def _cached_previous(self) -> ModelVersion | None:
        try:
            return self._cache.load_previous()
        except ModelRefused as refusal:
            log.warning("there is no version to fall back on: %s", refusal)
            return None

    def _is_new(self, reference: VersionReference) -> bool:
        current = self._current
        if current and (current.name, current.version) == (reference.name, reference.version):
            return False
        return reference != self._refused

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            going_on = f"; {self._current.label} goes on" if self._current else ""
            log.warning("%s%s", trouble, going_on)
        self._trouble = trouble

    def _watch(self) -> None:
        while not self._ended.wait(self._poll_seconds):
            try:
                self.look()
            except Exception:
                log.exception("the alias could not be looked up")
