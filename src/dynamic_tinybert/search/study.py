"""The study of a search: its storage, its settings, and what was measured so far."""

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
from dynamic_tinybert.model import LengthConfig
from dynamic_tinybert.search.errors import SearchError
from dynamic_tinybert.search.objective import Cost, Measurement
from dynamic_tinybert.search.pareto import pareto_front
from dynamic_tinybert.search.space import SearchSpace

_SETTINGS: Final = "settings"  # the study's attribute of that; a trial's is `measurement`
MEASUREMENT: Final = "measurement"
_WAIT: Final = 60  # seconds that a worker waits for another to let go of an SQLite file
_WITHIN: Final = 20.0  # points of F1, of a new study that says nothing else
NO_LIMIT: Final = 100.0  # points of F1: nobody can lose more, so this limits nothing


@dataclass(frozen=True, kw_only=True)
class StudySettings:
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
    within: float | None = NO_LIMIT


_BEFORE: Final[Mapping[str, Any]] = {"within": NO_LIMIT}  # of a study that was begun before there was such a setting
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


class Study:
    """A study in a storage, which survives a kill and which many workers share: begun, or gone on with.

    Args:
        storage: The URL of a database, as SQLAlchemy writes it, for example `sqlite:///search/study.db`.
        name: What the study is called there.
        settings: What it must have been begun with.
        resume: Go on with the study that is there; otherwise begin one, and there must be none yet.

    Attributes:
        study: Optuna's study; its first objective is F1, its second the cost.
        space: What may be proposed.
        settings: Those given; `within` as the study has it, if none was given.
        within: How much F1 a configuration may lose, in points, to be of interest.

    Raises:
        SearchError: The storage cannot be used; there is no study to resume, or one already that is not to be resumed;
            or it has other settings.
    """

    def __init__(self, storage: str, name: str, settings: StudySettings, *, resume: bool) -> None:
        self.space = SearchSpace(settings.layers, settings.low)
        self._storage = storage
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # of a trial that fails, its exception tells
        with self.errors(ImportError, RuntimeError):  # no driver for the database; a study of another Optuna
            self.study = self._open(name, resume)
            stored = self.study.user_attrs.get(_SETTINGS)
            known = None if stored is None else {**_BEFORE, **stored}
            begun_with = _WITHIN if known is None else known["within"]
            self.within: float = begun_with if settings.within is None else settings.within
            self.settings = settings = replace(settings, within=self.within)
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
    def errors(self, *others: type[Exception]) -> Iterator[None]:
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
        return len(self.trials(TrialState.COMPLETE))

    def trials(self, *states: Any) -> list[Any]:
        """Return the trials in these states; all, if none is named."""
        trials: list[Any] = self.study.get_trials(deepcopy=False, states=states or None)
        return trials

    @property
    def measured(self) -> dict[LengthConfig, Measurement]:
        """What is complete, by configuration, in the order of the trials."""
        found: dict[LengthConfig, Measurement] = {}
        for trial in self.trials(TrialState.COMPLETE):
            values = dict(trial.user_attrs[MEASUREMENT])
            config = LengthConfig(tuple(values.pop("fractions")))
            values.pop("copied")
            found.setdefault(config, Measurement(**values))
        return found

    @property
    def interesting(self) -> dict[LengthConfig, Measurement]:
        """What was measured, but for what loses more F1 than is of interest."""
        measured = self.measured
        full = measured.get(LengthConfig.full(self.settings.layers))
        least = -1.0 if full is None else full.f1 - self.within
        return {config: found for config, found in measured.items() if found.f1 >= least}

    def rows(self) -> list[dict[str, Any]]:
        """Return every trial as a row of a table: its number and state, what it is called, its figures if complete."""
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
        """Return the configurations that no other beats on the questions that choose, the cheapest first.

        Those that lose more than is of interest are left out.
        """
        measured = self.interesting
        configs = list(measured)
        return [configs[i] for i in pareto_front([(m.cost, m.f1) for m in measured.values()])]


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file, whatever its name holds."""
    return str(sqlalchemy.engine.URL.create("sqlite", database=str(file.resolve())))
