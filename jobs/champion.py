"""Which version scores: looks the alias up beside the stream, and holds the last good version."""

import logging
import threading

from jobs.model import ModelRefused
from jobs.model_cache import ModelCache
from jobs.model_registry import Registry, RegistryError, VersionReference, first_line
from jobs.scoring import ModelVersion

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0


class NoModel(Exception):
    """No version can score: the alias is not set and none ran here before."""


class ChampionWatcher:
    """Keeps ``current`` at the version that the alias points to, from a thread of its own.

    A version that does not fit is refused once, by name, and the current one goes on; so it does
    while the registry is away.
    """

    def __init__(
        self,
        registry: Registry,
        cache: ModelCache,
        poll_seconds: float,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._registry, self._cache = registry, cache
        self._poll_seconds, self._patience_seconds = poll_seconds, patience_seconds
        self._refused: VersionReference | None = None
        self._refusal = ""
        self._delayed: VersionReference | None = None
        self._trouble = ""
        self._ended = threading.Event()
        self._settled = threading.Event()
        self._settled.set()
        self._current: ModelVersion | None = None

    @property
    def current(self) -> ModelVersion:
        """The version that scores now; waits up to ``patience_seconds`` for one that is being
        fetched, once.

        Raises:
            NoModel: there is none.
        """
        if not self._settled.wait(self._patience_seconds):
            log.warning("the new champion takes long to fetch; going on without waiting for it")
            self._settled.set()
        current = self._current
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
        if self._current is None:
            try:
                self._current = self._cache.load()
            except ModelRefused as refusal:
                log.warning("the cache is of no use: %s", refusal)
            if self._current is not None:
                log.warning("going on with %s from the cache", self._current.label)
        threading.Thread(target=self._watch, name="champion", daemon=True).start()

    def stop(self) -> None:
        """End the watching."""
        self._ended.set()

    def look(self) -> None:
        """Look the alias up once and take over what is new and fits."""
        try:
            reference = self._registry.aliased()
        except RegistryError as error:
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

    def _take_over(self, reference: VersionReference) -> None:
        try:
            self._current = self._cache.fetch(self._registry, reference)
        except ModelRefused as refusal:
            self._refused, self._refusal = reference, f"{reference.label} is refused: {refusal}"
            self._tell(self._refusal)
        except (RegistryError, OSError) as error:
            self._delayed = reference
            self._tell(f"{reference.label} cannot be fetched: {first_line(error)}")
        else:
            self._refused = self._delayed = None
            self._trouble = ""
            log.info(
                "champion is %s (threshold %.4g)", self._current.label, self._current.threshold
            )

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
