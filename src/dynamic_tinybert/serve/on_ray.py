"""Deploy the application on Ray Serve: replicas on many machines, as many as the load needs.

Ray Serve accepts the connections, distributes the requests and sets the number of replicas. Each replica is the
complete application (`application.assemble`), and its own load control meets the objective. There is no other
coordination between machines.

    serve run dynamic_tinybert.serve.on_ray:build slo_ms=100 max_replicas=8

Needs the extra `ray-serve`. The model and the indexes must have an address, or the same path on each machine.
"""

# No `from __future__ import annotations`: Ray makes the settings of `build` only if its annotation is a class.
from typing import Any

from pydantic import ConfigDict, Field, create_model, field_validator, model_validator
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynamic_tinybert.model import parse_budget
from dynamic_tinybert.serve.options import SETTINGS, ServeOptions, parse_keys

NAME = "dynamic-tinybert"
_SPARE = 64  # requests above `max_waiting` that a replica accepts, so that it refuses them instead of Ray queueing them


def _field(name: str, **others: Any) -> Any:
    """Return a setting as a field of pydantic: its type, and its default, range and help."""
    setting = SETTINGS[name]
    kind = others.pop("kind", setting.type)
    if kind is float:
        others["allow_inf_nan"] = False
    more = {"default": setting.default, "ge": setting.min, "le": setting.max, "description": setting.help} | others
    return kind, Field(**more)


_SHARED = """
    model precision threads index budget slo_ms min_budget max_batch_tokens max_waiting timeout_ms max_questions
    max_text_characters max_question_characters max_body_bytes api_key_file allow_origin allowed_host log_level log_text
""".split()  # noqa: SIM905

_Shared: Any = create_model(
    "_Shared",
    __config__=ConfigDict(extra="forbid", protected_namespaces=()),
    workers=_field("workers", kind=int, default=1, description="How many batches a replica predicts at the same time."),
    **{name: _field(name) for name in _SHARED},
)


class RaySettings(_Shared):  # type: ignore[misc]
    """The settings of `build`, in a file for `serve deploy` or as NAME=VALUE after `serve run`.

    There are also the options of `dynamic-tinybert serve`, with the same names. `workers` is 1 by default, and a
    replica reserves a core for each thread of each worker. `index` maps names to folders or addresses. Each replica
    reads `api_key_file` on its own machine. Ray stores the logs of replicas with its own logs. Options of connections
    belong to Ray Serve (`http_options`). `index`, `allow_origin` and `allowed_host` can only be set in a file.

    Attributes:
        min_replicas: The least number of replicas.
        max_replicas: The greatest number of replicas.
        target_ongoing_requests: The average number of open requests per replica above which Ray adds replicas. By
            default one per worker: this is between half and all of the load that a replica can serve at `full`, before
            load control starts. Ray's own default of 2 would lose F1 before it adds machines.
        look_back_period_s: Seconds over which Ray averages the open requests; above 10, the interval of its reports.
        upscale_delay_s: Seconds of higher load before Ray adds replicas.
        downscale_delay_s: Seconds of lower load before Ray removes replicas.
    """

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=100, ge=1)
    target_ongoing_requests: float | None = Field(default=None, gt=0)
    look_back_period_s: float = Field(default=30.0, gt=10)
    upscale_delay_s: float = Field(default=10.0, ge=0)
    downscale_delay_s: float = Field(default=300.0, ge=0)

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> "RaySettings":
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas is below min_replicas")
        parse_budget(str(self.budget))
        if self.min_budget is not None:
            parse_budget(str(self.min_budget))
        return self

    def options(self) -> ServeOptions:
        """Return the options of a replica. This reads the file of keys.

        Raises:
            OSError: The file of keys cannot be read.
            ValueError: The file contains no key.
        """
        keys: tuple[str, ...] = ()
        if self.api_key_file is not None:
            keys = parse_keys(self.api_key_file.read_text("utf-8"))
            if not keys:
                raise ValueError(
                    f"{self.api_key_file} contains no key; without api_key_file, everybody may send questions"
                )
        # Ray Serve listens instead of us, and its machines have many names.
        return ServeOptions.from_settings({**dict(self), "host": ""}, indexes=self.index, api_keys=keys)


def build(settings: RaySettings) -> Application:
    """Build the application for `serve run`, `serve deploy` and `ray.serve.run`.

    A replica is ready when it has loaded the model, opened the indexes, and measured the time of a prediction on its
    machine. Before Ray removes a replica, the replica answers its open requests.

    Args:
        settings: The settings; Ray makes them from its own input.

    Example:
        >>> from ray import serve
        >>> from dynamic_tinybert.serve.on_ray import RaySettings, build
        >>> handle = serve.run(build(RaySettings(max_replicas=8)))  # doctest: +SKIP
    """

    def app() -> ASGIApp:
        from dynamic_tinybert.qa import QuestionAnswerer
        from dynamic_tinybert.serve.application import assemble
        from dynamic_tinybert.serve.http import setup_logs

        qa = QuestionAnswerer(settings.model, precision=settings.precision, threads=settings.threads)
        options = settings.options()
        setup_logs(settings.log_level, text=options.log_text)
        return _named_once(assemble(qa, options, workers=settings.workers)[1])

    cores = settings.workers * settings.threads
    deployment = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": cores},
        max_ongoing_requests=settings.max_waiting + _SPARE,
        max_queued_requests=settings.max_waiting,
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_ongoing_requests or float(settings.workers),
            look_back_period_s=settings.look_back_period_s,
            upscale_delay_s=settings.upscale_delay_s,
            downscale_delay_s=settings.downscale_delay_s,
        ),
        graceful_shutdown_timeout_s=settings.timeout_ms / 1000 + 5,
    )(serve.ingress(app)())
    return deployment.bind()


def _named_once(app: ASGIApp) -> ASGIApp:
    """Remove the header X-Request-ID: Ray Serve sets the id of the request, and sends this header itself."""

    async def named_once(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unnamed(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["X-Request-ID"]
            await send(message)

        await app(scope, receive, send_unnamed)

    return named_once
