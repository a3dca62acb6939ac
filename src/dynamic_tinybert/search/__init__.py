"""Search length configurations with two objectives, high F1 and low cost, on questions that are not trained on.

One set of questions chooses configurations (`select`); another measures the chosen ones again (`confirm`). Only the
figures of `confirm` go into a model's table. `space` defines what may be proposed, `samplers` propose, `objective`
measures, `study` stores figures, `run` runs trials and confirms, `pareto` finds the Pareto front, `results` writes. The
search needs optuna, and matplotlib for the picture. It does not need PyTorch, since the runtime measures.
"""

from dynamic_tinybert.files import extra

with extra("search", "the search"):
    from dynamic_tinybert.search.errors import SearchError
    from dynamic_tinybert.search.objective import Cost, Measurement, Objective
    from dynamic_tinybert.search.pareto import cover, hypervolume, pareto_front
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
    "cover",
    "fingerprint",
    "hypervolume",
    "make_sampler",
    "make_table",
    "pareto_front",
    "sqlite_url",
    "write_results",
]
