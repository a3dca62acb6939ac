"""The study of a search: its storage, its settings, and its measurements."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy.exc
from optuna.trial import TrialState

from dynamic_tinybert.folder import ModelFolder, find_weight_files
from dynamic_tinybert.model import LengthConfig, Precision
from dynamic_tinybert.search.errors import SearchError
from dynamic_tinybert.search.objective import Cost, Measurement
from dynamic_tinybert.search.pareto import pareto_front
from dynamic_tinybert.search.space import SearchSpace

_SETTINGS: Final = "settings"  # an attribute of the study; MEASUREMENT is one of a trial
MEASUREMENT: Final = "measurement"
_WAIT: Final = 60  # seconds that a worker waits for another to let go of an SQLite file
_WITHIN: Final = 20.0  # points of F1, the default of a new study
NO_LIMIT: Final = 100.0  # points of F1: no configuration can lose more


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """The settings that all trials of a study must share, so that their figures are comparable.

    Attributes:
        model: The `fingerprint` of the model.
        select: A fingerprint of the questions that choose.
        confirm: A fingerprint of the questions that confirm.
        layers: The number of layers of the model.
        low: The least ratio.
        cost: What is minimized.
        seed: The seed.
        within: How much F1, in points, a configuration may lose and still be of interest. None: the value that the
            study was started with, or 20 for a new study.
        precision: The precision of the measurements.
    """

    model: str
    select: str
    confirm: str
    layers: int
    low: float
    cost: Cost
    seed: int
    within: float | None = NO_LIMIT
    precision: Precision = "fp32"


_BEFORE: Final[Mapping[str, Any]] = {"within": NO_LIMIT, "precision": "fp32"}  # of studies before these settings
_NAMES: Final[Mapping[str, str]] = {
    "model": "another model",
    "select": "other questions to choose by (--data, --titles, --questions)",
    "confirm": "other questions to confirm by (--confirm)",
    "layers": "a model of other layers",
    "low": "another range of ratios (--low)",
    "cost": "another cost (--cost)",
    "seed": "another seed (--seed)",
    "within": "another limit of the loss (--within)",
    "precision": "another precision (--precision)",
}


def fingerprint(folder: ModelFolder) -> str:
    """Return a hash of a model's weights, settings and tokenizer. The model's path does not matter."""
    digest = hashlib.sha256()
    others = [folder.path / name for name in ("config.json", "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")]
    for file in [*find_weight_files(folder.path), *others]:
        if file.is_file():
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


class Study:
    """Begin or resume a study in a database. It survives a kill, and many workers can share it.

    Args:
        storage: The URL of a database, as SQLAlchemy writes it, for example `sqlite:///search/study.db`.
        name: The name of the study in the database.
        settings: The settings of the study; a resumed study must have the same ones.
        resume: Resume a study that exists; otherwise begin one, and it must not exist yet.
        anew: Begin one, too, if there is none to resume in the storage: the command was killed before it had begun one.

    Attributes:
        study: Optuna's study; its first objective is F1, its second the cost.
        space: What may be proposed.
        settings: The settings given; if `within` was None, it has the study's value.
        within: How much F1, in points, a configuration may lose and still be of interest.

    Raises:
        SearchError: The storage cannot be used; there is no study to resume; there is one already, but `resume` is
            false; or the study has other settings.
    """

    def __init__(self, storage: str, name: str, settings: StudySettings, *, resume: bool, anew: bool = False) -> None:
        self.space = SearchSpace(settings.layers, settings.low)
        self._storage = storage
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the exception of a failed trial says enough
        with self.errors(ImportError, RuntimeError):  # no driver for the database; a study of another Optuna version
            self.study = self._open(name, resume, anew)
            stored = self.study.user_attrs.get(_SETTINGS)
            known = None if stored is None else {**_BEFORE, **stored}
            begun_with = _WITHIN if known is None else known["within"]
            self.within: float = begun_with if settings.within is None else settings.within
            self.settings = settings = replace(settings, within=self.within)
            if known is None:  # new, or the worker that began it was killed before this line
                self.study.set_user_attr(_SETTINGS, asdict(settings))
            elif known != asdict(settings):
                others = [what for key, what in _NAMES.items() if known.get(key) != getattr(settings, key)]
                raise SearchError(
                    f"the search in {self._where} was started with {' and '.join(others)}: "
                    "give the same settings, or name another --output"
                )

    def _open(self, name: str, resume: bool, anew: bool) -> Any:
        sqlite = self._storage.startswith("sqlite")
        storage = optuna.storages.RDBStorage(
            self._storage, engine_kwargs={"connect_args": {"timeout": _WAIT}} if sqlite else None
        )
        try:
            if resume and not (anew and not optuna.get_all_study_names(storage)):
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
    def errors(self, *others: type[Exception]) -> Iterator[None]:
        """Turn the errors of a storage, and those of the types `others`, into a `SearchError` of one line."""
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
        """The number of complete trials."""
        return len(self.trials(TrialState.COMPLETE))

    def trials(self, *states: Any) -> list[Any]:
        """Return the trials in these states; without an argument, all trials."""
        trials: list[Any] = self.study.get_trials(deepcopy=False, states=states or None)
        return trials

    @property
    def measured(self) -> dict[LengthConfig, Measurement]:
        """The measurements of complete trials, by configuration, in the order of the trials."""
        found: dict[LengthConfig, Measurement] = {}
        for trial in self.trials(TrialState.COMPLETE):
            values = dict(trial.user_attrs[MEASUREMENT])
            config = LengthConfig(tuple(values.pop("fractions")))
            values.pop("copied")
            found.setdefault(config, Measurement(**values))
        return found

    @property
    def interesting(self) -> dict[LengthConfig, Measurement]:
        """The measurements of configurations that lose at most `within` points of F1 against `full`."""
        measured = self.measured
        full = measured.get(LengthConfig.full(self.settings.layers))
        least = -1.0 if full is None else full.f1 - self.within
        return {config: found for config, found in measured.items() if found.f1 >= least}

    def rows(self) -> list[dict[str, Any]]:
        """Return every trial as a row of a table: its number, state and name, and its figures if it is complete."""
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "name": trial.user_attrs.get("name", ""),
                **trial.user_attrs.get(MEASUREMENT, {}),
            }
            for trial in self.trials()
        ]

    def front(self) -> list[LengthConfig]:
        """Return the Pareto front of the `interesting` configurations on the questions that choose, cheapest first."""
        measured = self.interesting
        configs = list(measured)
        return [configs[i] for i in pareto_front([(m.cost, m.f1) for m in measured.values()])]


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file; any characters in its path are allowed."""
    return str(sqlalchemy.engine.URL.create("sqlite", database=str(file.resolve())))
