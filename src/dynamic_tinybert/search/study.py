"""The run: a study in a storage that survives a kill and that many workers share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy.exc
from optuna.trial import TrialState

from dynamic_tinybert.folder import ModelFolder, find_weight_files
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search.errors import SearchError
from dynamic_tinybert.search.objective import Cost, Measurement
from dynamic_tinybert.search.pareto import pareto_front
from dynamic_tinybert.search.space import SearchSpace

UNIFORM: Final = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Retentions of the uniform configurations that every search begins with, as Kim and Cho (2020) do."""

_LATE: Final = 5  # late ones at the most, so that a deep model has trials left
_SETTINGS: Final = "settings"  # the study's attribute of that; a trial's is `measurement`
_MEASUREMENT: Final = "measurement"
_STALE: Final = 10  # later trials that are complete while one is not: its worker was killed
_WAIT: Final = 60  # seconds that a worker waits for another to let go of an SQLite file
_WITHIN: Final = 20.0  # points of F1, of a new study that says nothing else
_ALL: Final = 100.0  # points of F1: nobody can lose more, so this limits nothing


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What makes the figures of a study comparable: trials of other settings do not belong in it.

    Attributes:
        model: A fingerprint of its weights.
        select: A fingerprint of the questions that choose.
        confirm: A fingerprint of those that confirm.
        layers: Layers of the model.
        low: The least ratio.
        cost: What is minimized.
        seed: The seed.
        within: How much F1 a configuration may lose, in points, to be of interest; None stands for what the study was
            begun with, and for 20 in a new one.
    """

    model: str
    select: str
    confirm: str
    layers: int
    low: float
    cost: Cost
    seed: int
    within: float | None = _ALL


_BEFORE: Final[Mapping[str, Any]] = {"within": _ALL}  # of a study that was begun before there was such a setting
_NAMES: Final[Mapping[str, str]] = {
    "model": "another model",
    "select": "other questions to choose by (--data, --titles, --questions)",
    "confirm": "other questions to confirm by (--confirm)",
    "layers": "a model of other layers",
    "low": "another range of ratios (--low)",
    "cost": "another cost (--cost)",
    "seed": "another seed (--seed)",
    "within": "another limit of the loss (--within)",
}


def fingerprint(folder: ModelFolder) -> str:
    """Return a hash of a model's weights, settings and tokenizer: another model has another, wherever it lies."""
    digest = hashlib.sha256()
    others = [folder.path / name for name in ("config.json", "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")]
    for file in [*find_weight_files(folder.path), *others]:
        if file.is_file():
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


class Search:
    """A search in a storage: begun, or gone on with.

    Args:
        storage: The URL of a database, as SQLAlchemy writes it, for example `sqlite:///search/study.db`.
        name: What the study is called there.
        settings: What it must have been begun with.
        resume: Go on with the study that is there; or else begin one, where none is there yet.

    Attributes:
        study: Optuna's study; its first objective is F1, its second the cost.
        space: What may be proposed.
        settings: Those given; `within` as the study has it, if none was given.

    Raises:
        SearchError: The storage cannot be used; there is no study to resume, or one already that is not to be resumed;
            or it has other settings.
    """

    def __init__(self, storage: str, name: str, settings: Settings, *, resume: bool) -> None:
        self.space = SearchSpace(settings.layers, settings.low)
        self._storage = storage
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # of a trial that fails, its exception tells
        with self._errors(ImportError, RuntimeError):  # no driver for the database; a study of another Optuna
            self.study = self._open(name, resume)
            stored = self.study.user_attrs.get(_SETTINGS)
            known = None if stored is None else {**_BEFORE, **stored}
            begun_with = _WITHIN if known is None else known["within"]
            self._within: float = begun_with if settings.within is None else settings.within
            self.settings = settings = replace(settings, within=self._within)
            if known is None:  # new, or its maker was killed before it could say
                self.study.set_user_attr(_SETTINGS, asdict(settings))
            elif known != asdict(settings):
                others = [what for key, what in _NAMES.items() if known.get(key) != getattr(settings, key)]
                raise SearchError(
                    f"the search in {self._where} was begun with {' and '.join(others)}: "
                    "give what it was begun with, or name another --output"
                )

    def _open(self, name: str, resume: bool) -> Any:
        sqlite = self._storage.startswith("sqlite")
        storage = optuna.storages.RDBStorage(
            self._storage, engine_kwargs={"connect_args": {"timeout": _WAIT}} if sqlite else None
        )
        try:
            if resume:
                return optuna.load_study(storage=storage, study_name=name)
            return optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])
        except KeyError:
            raise SearchError(f"there is no search to resume in {self._where}: leave out --resume") from None
        except optuna.exceptions.DuplicatedStudyError:
            raise SearchError(
                f"there is a search in {self._where} already: add --resume to go on with it, or name another --output"
            ) from None

    @property
    def _where(self) -> str:
        try:
            return str(sqlalchemy.engine.make_url(self._storage).render_as_string(hide_password=True))
        except (sqlalchemy.exc.ArgumentError, ValueError):
            return self._storage

    @contextlib.contextmanager
    def _errors(self, *others: type[Exception]) -> Iterator[None]:
        """Turn what a storage raises, and other errors too, into one line."""
        try:
            yield
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, *others) as error:
            reason: BaseException = error
            while True:
                deeper = getattr(reason, "orig", None) or reason.__cause__
                if deeper is None:
                    break
                reason = deeper
            raise SearchError(f"the study in {self._where} cannot be used: {reason}") from error

    @property
    def complete(self) -> int:
        """Trials that are complete."""
        return len(self._trials(TrialState.COMPLETE))

    def _trials(self, *states: Any) -> list[Any]:
        trials: list[Any] = self.study.get_trials(deepcopy=False, states=states or None)
        return trials

    def run(
        self,
        objective: Callable[[LengthConfig], Measurement],
        sampler: Any,
        trials: int,
        *,
        first: Mapping[str, LengthConfig] | None = None,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> None:
        """Go on until the study has so many complete trials, whoever completes them.

        With several workers, each may finish the trial that it is at when the last is complete. A configuration that
        was measured already is not measured again: the trial gets the figures of the earlier one. A trial whose worker
        was killed does not count.

        Args:
            objective: Measures a configuration.
            sampler: Proposes, see `make_sampler`.
            trials: How many there should be in all.
            first: Configurations to begin with, by name; led into the range.
            progress: Called with the trials complete, how many there should be, and the best F1.

        Raises:
            SearchError: The storage fails.
        """
        self.study.sampler = sampler
        wanted = {name: self.space.nearest(config) for name, config in (first or {}).items()}

        with self._errors():
            while True:
                complete = self._trials(TrialState.COMPLETE)
                if progress:
                    progress(len(complete), trials, max((t.values[0] for t in complete), default=0.0))
                if len(complete) >= trials:
                    return
                self._enqueue(wanted)
                trial = self.study.ask()
                try:
                    self.study.tell(trial, self._run_trial(trial, objective))
                except BaseException as error:
                    if isinstance(error, (ValueError, optuna.exceptions.OptunaError)) and self._finished(trial):
                        continue  # in SQLite two workers may take the same trial from the queue; one was faster
                    with contextlib.suppress(Exception):
                        self.study.tell(trial, state=TrialState.FAIL)
                    raise

    def _finished(self, trial: Any) -> bool:
        return any(t.number == trial.number and t.state.is_finished() for t in self._trials())

    def _run_trial(self, trial: Any, objective: Callable[[LengthConfig], Measurement]) -> tuple[float, float]:
        config = self.space.config([trial.suggest_float(name, self.space.low, 1.0) for name in self.space.names])
        earlier = self.measured.get(config)
        found = earlier or objective(config)
        fractions = list(config.fractions)
        if self._within < _ALL:
            best = LengthConfig.full(self.settings.layers)
            full = found if config == best else self.measured.get(best) or objective(best)
            with warnings.catch_warnings():  # a faster worker at the same trial has said it already
                warnings.filterwarnings("ignore", message="The constraint value is ignored")
                trial.set_constraint("within", full.f1 - found.f1 - self._within)
        trial.set_user_attr(_MEASUREMENT, {"fractions": fractions, "copied": earlier is not None, **found.to_dict()})
        return found.f1, found.cost

    def _enqueue(self, wanted: Mapping[str, LengthConfig]) -> None:
        """Put what every search begins with in the queue, unless it is there, under way or done."""
        waiting = {t.user_attrs.get("name") for t in self._trials(TrialState.WAITING)}
        complete = self._trials(TrialState.COMPLETE)
        done = {t.user_attrs.get("name") for t in complete}
        under_way = {
            t.user_attrs.get("name")
            for t in self._trials(TrialState.RUNNING)
            if sum(other.number > t.number for other in complete) < _STALE
        }
        known = waiting | done | under_way
        seen = set(self.measured)
        for name, config in wanted.items():
            if name not in known and config not in seen:
                ratios = dict(zip(self.space.names, self.space.ratios(config), strict=True))
                self.study.enqueue_trial(ratios, user_attrs={"name": name})
            seen.add(config)

    @property
    def measured(self) -> dict[LengthConfig, Measurement]:
        """What is complete, by configuration, in the order of the trials."""
        found: dict[LengthConfig, Measurement] = {}
        for trial in self._trials(TrialState.COMPLETE):
            values = dict(trial.user_attrs[_MEASUREMENT])
            config = LengthConfig(tuple(values.pop("fractions")))
            values.pop("copied")
            found.setdefault(config, Measurement(**values))
        return found

    @property
    def interesting(self) -> dict[LengthConfig, Measurement]:
        """What was measured, but for what loses more F1 than is of interest."""
        measured = self.measured
        full = measured.get(LengthConfig.full(self.settings.layers))
        least = -1.0 if full is None else full.f1 - self._within
        return {config: found for config, found in measured.items() if found.f1 >= least}

    def rows(self) -> list[dict[str, Any]]:
        """Return every trial as a row of a table: its number and state, what it is called, its figures if complete."""
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "name": trial.user_attrs.get("name", ""),
                **trial.user_attrs.get(_MEASUREMENT, {}),
            }
            for trial in self._trials()
        ]

    def front(self) -> list[LengthConfig]:
        """Return the configurations that no other beats on the questions that choose, the cheapest first.

        Those that lose more than is of interest are left out.
        """
        measured = self.interesting
        configs = list(measured)
        return [configs[i] for i in pareto_front([(m.cost, m.f1) for m in measured.values()])]

    def confirm(
        self,
        objective: Callable[[LengthConfig], Measurement],
        configs: Sequence[LengthConfig],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[LengthConfig, Measurement]:
        """Measure configurations on the questions that confirm, but for those that a worker has measured there already.

        Args:
            objective: Measures a configuration on these questions.
            configs: The configurations. Each worker takes them in an order of its own, so that several share the work.
            progress: Called with the configurations measured and how many there are.

        Raises:
            SearchError: The storage fails.
        """
        found: dict[LengthConfig, Measurement] = {}
        order = list(dict.fromkeys(configs))
        random.Random(os.getpid()).shuffle(order)
        with self._errors():
            for config in order:
                if progress:
                    progress(len(found), len(order))
                key = "confirm-" + hashlib.sha256(repr(config.fractions).encode()).hexdigest()[:32]
                known = self.study.user_attrs.get(key)
                if known is None:
                    known = objective(config).to_dict()
                    self.study.set_user_attr(key, known)
                found[config] = Measurement(**known)
        return {config: found[config] for config in dict.fromkeys(configs)}


def beginning(layers: int, low: float, table: Mapping[str, LengthConfig] | None = None) -> dict[str, LengthConfig]:
    """Return what a search begins with, by name: `full`, uniform and late ones, and those of the model's table.

    The late ones keep everything but in the last layers, where they drop all that they may: to drop late costs less F1
    than to drop early at the same share, and a sampler that draws from a continuous range hardly ever proposes a ratio
    of 1 by itself.

    Args:
        layers: Layers of the model.
        low: The least ratio.
        table: The model's own configurations by name, if they were measured.
    """
    first = {"full": LengthConfig.full(layers)}
    first |= {f"uniform {r:.2f}": LengthConfig.uniform(layers, r) for r in UNIFORM if r >= low}
    for number in range(1, min(layers, _LATE + 1)):
        config = SearchSpace(layers, low).config([1.0] * (layers - number) + [low] * number)
        first[f"late {number}"] = config
    return first | {f"table {name}": config for name, config in (table or {}).items()}


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file, whatever its name holds."""
    return str(sqlalchemy.engine.URL.create("sqlite", database=str(file.resolve())))
