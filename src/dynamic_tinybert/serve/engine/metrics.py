"""Metrics of a server for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_TOKENS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048)
_PREFIX = "dynamic_tinybert"


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def name(rest: str) -> str:
            return f"{_PREFIX}_{rest}"

        self.requests = Counter(
            name("requests"), "Requests to /answer that have ended, by status.", ["status"], registry=registry
        )
        self.accepted = Counter(name("accepted_questions"), "Questions that were accepted.", registry=registry)
        self.answered = Counter(
            name("answered_questions"),
            "Questions that were answered, by the length configuration they got.",
            ["configuration"],
            registry=registry,
        )
        self.refused = Counter(
            name("refused_questions"), "Questions that were refused, by reason.", ["reason"], registry=registry
        )
        self.given_up = Counter(
            name("given_up_questions"),
            "Questions that were accepted and not answered, by reason: deadline, client (it disconnected), error.",
            ["reason"],
            registry=registry,
        )
        self.open_requests = Gauge(name("open_requests"), "Requests to /answer that are open.", registry=registry)
        self.waiting = Gauge(
            name("waiting_questions"), "Questions that were accepted and have no answer yet.", registry=registry
        )
        self.latency = Histogram(
            name("request_seconds"),
            "The time from a request's arrival to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue = Histogram(
            name("queue_seconds"),
            "The time from a question's arrival to its first batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            name("batch_seconds"), "The time to predict a batch.", buckets=_SECONDS, registry=registry
        )
        self.batch_tokens = Histogram(
            name("batch_tokens"), "Tokens of a batch, including padding.", buckets=_TOKENS, registry=registry
        )
        self.padding = Counter(name("padding_tokens"), "Tokens of padding that were predicted.", registry=registry)
        self.share = Histogram(
            name("share"),
            "Share of the full model's arithmetic that questions got.",
            buckets=[i / 20 for i in range(1, 21)],
            registry=registry,
        )
        self.present_share = Gauge(
            name("present_share"), "Share that load control gives a question now.", registry=registry
        )
        self.objective = Gauge(
            name("objective_seconds"), "The objective of load control; 0 if there is none.", registry=registry
        )

    def request(self, status: str) -> None:
        """Count a request to /answer that has ended."""
        self.requests.labels(status).inc()

    def text(self) -> bytes:
        """Return all metrics in the format of Prometheus."""
        return generate_latest(self.registry)

    def totals(self) -> dict[str, int]:
        """Return the total numbers of accepted, answered, refused and given-up questions."""

        def total(counter: Counter) -> int:
            samples = (sample for metric in counter.collect() for sample in metric.samples)
            return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))

        return {
            "accepted": total(self.accepted),
            "answered": total(self.answered),
            "refused": total(self.refused),
            "given_up": total(self.given_up),
        }
