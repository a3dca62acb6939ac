"""The search for length configurations: two objectives, F1 up and cost down, on questions that nothing trains on.

One set of questions chooses (`select`), another measures again what was chosen (`confirm`), and only what was
measured there goes into a model's table. `space` says what may be proposed, `samplers` propose, `objective` measures,
`study` keeps what was measured, `run` goes on and confirms, `pareto` tells the good from the beaten, `results` writes.
Needs optuna, and matplotlib for the picture; the runtime measures, so no PyTorch.
"""

from dynamic_tinybert.search.errors import SearchError
from dynamic_tinybert.search.objective import Cost, Measurement, Objective
from dynamic_tinybert.search.pareto import hypervolume, pareto_front
from dynamic_tinybert.search.results import ConfirmedConfig, make_table, write_results
from dynamic_tinybert.search.run import Search, beginning
from dynamic_tinybert.search.samplers import DEFAULT_SAMPLER, SAMPLERS, make_sampler
from dynamic_tinybert.search.space import SearchSpace
from dynamic_tinybert.search.study import Study, StudySettings, fingerprint, sqlite_url

__all__ = [
    "DEFAULT_SAMPLER",
    "SAMPLERS",
    "ConfirmedConfig",
    "Cost",
    "Measurement",
    "Objective",
    "Search",
    "SearchError",
    "SearchSpace",
    "Study",
    "StudySettings",
    "beginning",
    "fingerprint",
    "hypervolume",
    "make_sampler",
    "make_table",
    "pareto_front",
    "sqlite_url",
    "write_results",
]
