"""Load control on paper: recorded arrivals, a clock that only the test moves, a table that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from dynamic_tinybert.folder import open_folder
from dynamic_tinybert.model import ConfigTable, LengthConfig, MeasuredConfig, ModelShape, share
from dynamic_tinybert.serve.engine.control import Objective, ladder_of, place
from dynamic_tinybert.serve.engine.costs import Costs
from dynamic_tinybert.serve.engine.scheduler import Scheduler, Waiting
from support.simulation import Served, poisson, simulate

pytestmark = pytest.mark.serve

SLO = 0.2
THREADS = 2
OVERHEAD = 0.003  # seconds of an answer that the scheduler does not see
PER_QUESTION = 0.0015  # seconds of a batch beside its reading, for each question
SIZES = np.clip(np.random.default_rng(5).normal(174, 55, 500), 50, 384).astype(int)  # as SQuAD's are
# What a configuration takes on a CPU, of what full takes: more than its share (measured).
SHARES, TIMES = (
    [0.219, 0.288, 0.331, 0.383, 0.437, 0.547, 0.678, 1],
    [0.27, 0.335, 0.383, 0.431, 0.480, 0.562, 0.697, 1],
)
# Length configurations of an embedded model, with their F1.
CONFIGS = [
    (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 75.88),
    (1.0, 1.0, 1.0, 1.0, 0.559622, 0.159447, 75.84),
    (1.0, 0.946207, 0.946207, 0.946207, 0.509247, 0.118614, 75.7),
    (1.0, 1.0, 0.829167, 0.829167, 0.147875, 0.147875, 75.54),
    (1.0, 1.0, 0.787938, 0.363408, 0.363408, 0.363408, 75.35),
    (1.0, 1.0, 0.571953, 0.571953, 0.057195, 0.057195, 74.09),
    (1.0, 0.795301, 0.613346, 0.466518, 0.046652, 0.037221, 73.72),
    (1.0, 0.612768, 0.506104, 0.506104, 0.110273, 0.044324, 71.53),
    (0.752939, 0.752939, 0.752939, 0.234088, 0.042788, 0.042788, 71.4),
    (0.857528, 0.597158, 0.397179, 0.397179, 0.039718, 0.039718, 68.98),
    (0.577738, 0.577738, 0.577738, 0.41744, 0.041744, 0.041744, 65.68),
    (0.7, 0.49, 0.343, 0.2401, 0.16807, 0.117649, 64.76),
    (0.65, 0.4225, 0.274625, 0.178506, 0.116029, 0.075419, 60.09),
    (0.6, 0.36, 0.216, 0.1296, 0.07776, 0.046656, 55.02),
    (0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 42.67),
]


@pytest.fixture(scope="module")
def table() -> tuple[ModelShape, list[MeasuredConfig], int]:
    shape = open_folder(None).shape
    configs = [(LengthConfig(tuple(fractions)), f1) for *fractions, f1 in CONFIGS]
    choices = [
        MeasuredConfig(name=f"{i}", config=config, share=share(shape, config), f1=f1)
        for i, (config, f1) in enumerate(configs)
    ]
    ladder, lowest = ladder_of(ConfigTable(choices, "squad"), None)
    return shape, ladder, lowest


class Machine:
    """What serving really takes, and the server that has to find out."""

    def __init__(self, table: tuple[ModelShape, list[MeasuredConfig], int], *, slower: float = 1.0) -> None:
        self.shape, self.ladder, self.lowest = table
        self.factors = [float(np.interp(c.share, SHARES, TIMES)) / c.share for c in self.ladder]
        self.slower = slower
        self.truth = self.costs()
        self.noise = np.random.default_rng(1)

    def costs(self) -> Costs:
        return Costs(self.shape, self.ladder, overhead=0.001, pace=1.45e-11, factors=self.factors)

    @property
    def capacity(self) -> float:
        """Questions a second at the full model."""
        return THREADS / (float(np.mean([self.truth.seconds(1, size)[0] for size in SIZES])) + PER_QUESTION)

    def takes(self, rows: int, length: int, index: int) -> float:
        noise = float(np.exp(self.noise.normal(0, 0.15)))
        return (float(self.truth.seconds(rows, length)[index]) * noise + PER_QUESTION * rows) * self.slower

    def serve(
        self,
        arrivals: Sequence[tuple[float, Sequence[int]]],
        *,
        slo: float = SLO,
        lowest: int | None = None,
        cap: int = 0,
        takes: Callable[[int, int, int], float] | None = None,
    ) -> list[Served]:
        scheduler = Scheduler(
            self.costs(), Objective(seconds=slo), lowest=self.lowest if lowest is None else lowest, threads=THREADS
        )
        return simulate(scheduler, arrivals, takes or self.takes, threads=THREADS, cap=cap, overhead=OVERHEAD)

    def load(
        self, times: float, seconds: float = 20, seed: int = 1, begin: float = 0.0
    ) -> list[tuple[float, list[int]]]:
        """Recorded arrivals at so many times what the full model can serve."""
        return [(at + begin, sizes) for at, sizes in poisson(times * self.capacity, seconds, seed, SIZES)]

    def mean_share(self, served: Sequence[Served]) -> float:
        return float(np.mean([self.ladder[one.place].share for one in served if one.place is not None]))


def held(served: Sequence[Served]) -> float:
    """The share of those accepted that were answered within the objective."""
    latencies = [one.latency for one in served if one.latency is not None]
    return sum(latency <= SLO for latency in latencies) / len(latencies)


def refused(served: Sequence[Served]) -> float:
    return sum(one.latency is None for one in served) / len(served)


def test_an_idle_server_gives_all_of_the_accuracy(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    machine = Machine(table)
    served = machine.serve(machine.load(0.25))
    assert {one.place for one in served} == {0}
    assert held(served) == 1


def test_at_twice_the_full_models_capacity_the_objective_holds_and_nobody_is_refused(
    table: tuple[ModelShape, list[MeasuredConfig], int],
) -> None:
    machine = Machine(table)
    served = machine.serve(machine.load(2))
    assert held(served) >= 0.99
    assert refused(served) == 0
    assert 0.3 < machine.mean_share(served) < 0.5


def test_without_load_control_the_same_arrivals_are_answered_too_late(
    table: tuple[ModelShape, list[MeasuredConfig], int],
) -> None:
    machine = Machine(table)
    served = machine.serve(machine.load(2, seconds=5), slo=math.inf)
    assert {one.place for one in served} == {0}
    assert held(served) < 0.5


def test_the_more_comes_the_less_each_gets(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    machine = Machine(table)
    shares = [machine.mean_share(machine.serve(machine.load(times, seconds=6))) for times in (0.5, 1, 1.5, 2, 2.5)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.99


def test_it_climbs_back_as_the_load_falls(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    machine = Machine(table)
    arrivals = [
        *machine.load(0.3, seconds=5),
        *machine.load(2, seconds=5, begin=5),
        *machine.load(0.3, seconds=10, begin=10),
    ]
    served = machine.serve(arrivals)
    parts = [[one for one in served if begin <= one.arrived < end] for begin, end in ((0, 5), (6, 10), (12, 20))]
    before, during, after = (machine.mean_share(part) for part in parts)
    assert before > 0.99
    assert during < 0.5
    assert after > 0.99


def test_it_never_goes_below_the_floor(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    machine = Machine(table)
    floor = next(i for i, choice in enumerate(machine.ladder) if choice.share < 0.6)
    served = machine.serve(machine.load(2), lowest=floor)
    places = {one.place for one in served if one.place is not None}
    assert max(places) == floor
    assert refused(served) > 0  # what the floor cannot serve is refused at once, not answered late
    assert held(served) > 0.9


def test_a_question_that_asks_for_less_gets_no_more(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    machine = Machine(table)
    cap = 4
    served = machine.serve(machine.load(0.2), cap=cap)
    assert {one.place for one in served} == {cap}


def test_of_four_times_the_capacity_what_is_accepted_is_answered_in_time(
    table: tuple[ModelShape, list[MeasuredConfig], int],
) -> None:
    machine = Machine(table)
    served = machine.serve(machine.load(4))
    assert 0.2 < refused(served) < 0.6
    after_the_first_seconds = [one for one in served if one.arrived > 3]
    assert held(after_the_first_seconds) > 0.95


def test_it_learns_that_the_machine_is_slower_than_it_was(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    """Another program takes part of the machine: what was measured at the start is wrong from then on."""
    machine = Machine(table, slower=1.6)
    served = machine.serve(machine.load(1))
    later = [one for one in served if one.arrived > 3]
    assert held(later) >= 0.99
    assert machine.mean_share(later) < 0.7


def test_the_same_arrivals_are_answered_in_the_same_way(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    first, second = (machine.serve(machine.load(1.5, seconds=5)) for machine in (Machine(table), Machine(table)))
    assert first == second


def test_a_long_text_that_no_configuration_can_read_in_time_takes_nothing_from_the_accuracy_of_others(
    table: tuple[ModelShape, list[MeasuredConfig], int],
) -> None:
    machine = Machine(table)
    arrivals = [(0.0, [384] * 200), *((0.5 + i / 4, [174]) for i in range(8))]
    served = machine.serve(arrivals)
    assert served[0].place == 0
    assert all(one.latency is not None and one.latency < SLO for one in served[1:])
    assert machine.mean_share(served[1:]) > 0.6


def test_a_text_of_some_windows_is_read_so_that_it_is_answered_in_time(
    table: tuple[ModelShape, list[MeasuredConfig], int],
) -> None:
    """At full it would take longer than the objective, at a cheaper configuration it does not."""
    machine = Machine(table)
    (at_full,) = machine.serve([(0.0, [384] * 6)], slo=math.inf)
    (alone,) = machine.serve([(0.0, [384] * 6)])
    assert at_full.latency is not None
    assert alone.latency is not None
    assert at_full.latency > SLO > alone.latency
    assert alone.place


def test_an_objective_of_its_own_is_held_without_load_control(
    table: tuple[ModelShape, list[MeasuredConfig], int],
) -> None:
    machine = Machine(table)
    scheduler = Scheduler(machine.costs(), Objective(), threads=1)
    cost = machine.costs().seconds(1, 200)
    hurried = Waiting(
        "hurried", [200], 0, arrived=0.0, objective=float(cost[0])
    )  # less than full takes with its margin
    scheduler.submit([hurried], 0.0)
    batch = scheduler.next_batch(0.0)
    assert batch is not None
    assert batch.place > 0
    scheduler.submit([Waiting("patient", [200], 0, arrived=0.0)], 0.0)
    batch = scheduler.next_batch(0.0)
    assert batch is not None
    assert batch.place == 0


def test_the_ladder_has_full_and_what_is_more_accurate_than_all_that_is_cheaper() -> None:
    shape = ModelShape(layers=2, hidden=32, heads=2, feed_forward=64, vocabulary=100, positions=512)

    def choice(name: str, retention: float, f1: float) -> MeasuredConfig:
        config = LengthConfig.uniform(2, retention)
        return MeasuredConfig(name=name, config=config, share=share(shape, config), exact_match=f1, f1=f1)

    table = ConfigTable(
        [choice("full", 1, 80), choice("bad", 0.9, 70), choice("good", 0.8, 79), choice("cheap", 0.5, 71)], "questions"
    )
    ladder, lowest = ladder_of(table, None)
    assert [c.name for c in ladder] == ["full", "good", "cheap"]
    assert lowest == 2
    ladder, lowest = ladder_of(table, ladder[1])
    assert ladder[lowest].name == "good"
    assert place(ladder, table.choices[1]) == 1  # of what is not on it, the dearest that costs no more


def test_costs_are_measured_and_learned(tmp_path: Path) -> None:
    folder = open_folder(None)
    ladder, _ = ladder_of(ConfigTable.read(folder.shape, folder.length_configs), None)
    truth = Costs(folder.shape, ladder, overhead=0.002, pace=2e-11, factors=[1 + i / 20 for i in range(len(ladder))])
    now = [0.0]

    def read(length: int, choice: MeasuredConfig) -> None:
        now[0] += float(truth.seconds(1, length)[ladder.index(choice)])

    costs = Costs.measure(folder.shape, ladder, read, clock=lambda: now[0])
    for length in (30, 150, 384):
        assert costs.seconds(1, length) == pytest.approx(truth.seconds(1, length), rel=0.1)
    before = costs.seconds(2, 200)
    for _ in range(100):
        costs.observe(0, 2, 200, float(before[0]) * 3)
    after = costs.seconds(2, 200)
    assert after[0] == pytest.approx(before[0] * 3, rel=0.01)
    assert (after[1:] > before[1:] * 1.5).all()  # what slows one mostly slows all


def test_what_only_the_cheapest_can_hold_gets_the_cheapest(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    """There is no cliff: as a text grows it gets less, and all again only when nothing could save it."""
    machine = Machine(table)
    places = [machine.serve([(0.0, [384] * windows)])[0].place for windows in range(1, 40)]
    lost = next(i for i, index in enumerate(places) if i and index == 0 and places[i - 1])
    assert places[:lost] == sorted(places[:lost])
    assert places[lost - 1] == machine.lowest
    assert set(places[lost:]) == {0}
    cheapest = machine.truth.seconds(1, 384)[machine.lowest]
    assert (lost + 1) * cheapest / THREADS > 0.85 * SLO


def test_a_list_that_cannot_be_answered_in_time_asks_for_nothing(
    table: tuple[ModelShape, list[MeasuredConfig], int],
) -> None:
    """It is of use when all of it is answered: that its first questions could have been in time helps nobody."""
    machine = Machine(table)
    costs = machine.costs()
    scheduler = Scheduler(costs, Objective(), threads=1)  # no load control: only what the request itself asks for
    objective = 20 * float(costs.seconds(1, 174)[0])
    scheduler.submit([Waiting("list", [174], 0, arrived=0.0, objective=objective) for _ in range(200)], 0.0)
    assert scheduler.present(0.0) == 0
    scheduler = Scheduler(costs, Objective(), threads=1)
    scheduler.submit([Waiting("list", [174], 0, arrived=0.0, objective=objective) for _ in range(30)], 0.0)
    assert scheduler.present(0.0) > 0


def test_what_is_refused_for_the_objectives_sake_is_a_load(table: tuple[ModelShape, list[MeasuredConfig], int]) -> None:
    machine = Machine(table)
    scheduler = Scheduler(machine.costs(), Objective(seconds=SLO), threads=THREADS)
    for i in range(20):
        scheduler.submit([Waiting(i, [174], 0, arrived=0.0, objective=SLO)], 0.0)
    while (batch := scheduler.next_batch(0.0)) is not None:
        scheduler.finished(batch, batch.expected)
    assert scheduler.present(10.0) == 0
    for i in range(400):
        scheduler.refused(10.0 + i / 1000)
    assert scheduler.present(10.4) > 0
