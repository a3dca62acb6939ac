"""The application on Ray Serve, on a cluster of two nodes on this machine."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
from pydantic import ValidationError
from ray import serve
from ray.serve import Application

from dynamic_tinybert import Corpus, QuestionAnswerer
from dynamic_tinybert.serve.on_ray import NAME, RaySettings, build
from support.ray_nodes import Cluster

TEXT = "The lighthouse of Port Ellis was built by Agnes Moreau in 1871. Its keeper was Barnaby Whitlock. " * 3
QUESTION = "Who built the lighthouse?"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Service:
    """The application on a cluster of its own."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        ray.init(address=self.cluster.address, log_to_driver=False)
        self.port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": self.port})

    def run(self, **settings: Any) -> None:
        serve.run(build(RaySettings(**settings)), name="qa")

    def stop(self) -> None:
        serve.shutdown()
        ray.shutdown()
        self.cluster.stop()

    def call(self, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, list[str]], Any]:
        """Return status, headers by name, and what came, as JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            names = {name.lower() for name in response.headers}
            found = {name: response.headers.get_all(name) for name in names}
            return response.status, found, json.loads(response.read())

    def ask(self, **more: Any) -> Any:
        """Return the only result to `QUESTION`."""
        status, _, came = self.call("/answer", {"question": QUESTION, "text": TEXT, **more})
        assert status == 200, came
        return came["results"][0]

    def replicas(self) -> int:
        states = serve.status().applications["qa"].deployments[NAME].replica_states
        return int(states.get("RUNNING", 0))

    def wait_for_replicas(self, count: int, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while self.replicas() != count:
            assert time.monotonic() < end, f"{self.replicas()} replicas, not {count}: {serve.status()}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


def test_a_replica_answers_as_the_library_does_and_refuses_as_the_server_does(service: Service, tmp_path: Path) -> None:
    Corpus(tmp_path / "index").put("ellis", TEXT)
    keys = tmp_path / "keys"
    keys.write_text("# ours\nsecret\n", "utf-8")
    service.run(max_replicas=1, index={"docs": str(tmp_path / "index")}, api_key_file=str(keys), max_questions=2)
    key = {"Authorization": "Bearer secret"}
    status, headers, came = service.call("/answer", {"question": QUESTION, "text": TEXT}, X_Request_ID="mine", **key)
    assert (status, headers["x-request-id"]) == (200, ["mine"])
    ours, result = QuestionAnswerer()(QUESTION, TEXT), came["results"][0]
    assert result["configuration"] == "full"
    assert (result["answers"][0]["text"], result["answers"][0]["start"]) == (ours.text, ours.start)
    assert result["answers"][0]["score"] == pytest.approx(ours.score, abs=1e-4)
    status, _, came = service.call("/answer", {"question": QUESTION, "index": "docs"}, **key)
    assert (status, came["results"][0]["answers"][0]["document"]) == (200, "ellis")
    assert service.call("/answer", {"question": QUESTION, "text": TEXT})[0] == 401
    for wrong, code in [({"question": ""}, 422), ({"question": [QUESTION] * 3, "text": TEXT}, 422)]:
        status, headers, came = service.call("/answer", wrong, **key)
        assert (status, came["status"]) == (code, code)
        assert headers["content-type"] == ["application/problem+json"]
    assert service.call("/health")[0] == 200
    assert [index["name"] for index in service.call("/info", **key)[2]["indexes"]] == ["docs"]


def test_load_brings_a_replica_and_cheaper_answers_and_their_end_takes_it_away(service: Service) -> None:
    service.run(max_replicas=2, look_back_period_s=10.5, upscale_delay_s=0.5, downscale_delay_s=1.0, slo_ms=150)
    service.wait_for_replicas(1)
    expected = QuestionAnswerer()(QUESTION, TEXT).text
    asking, seen = True, []

    def ask_on(_: int) -> None:
        while asking:
            status, _, came = service.call("/answer", {"question": QUESTION, "text": TEXT * 4})
            seen.append((status, came))

    with ThreadPoolExecutor(6) as pool:
        list_of = [pool.submit(ask_on, i) for i in range(6)]
        try:
            service.wait_for_replicas(2)
        finally:
            asking = False
        for one in list_of:
            one.result()
    assert {status for status, _ in seen} <= {200, 429}
    shares = [came["results"][0]["share"] for status, came in seen if status == 200]
    assert min(shares) < 1.0, "load control never gave less than the full model"
    service.wait_for_replicas(1)  # the load is gone
    assert service.ask()["answers"][0]["text"] == expected


def test_a_lost_machine_leaves_a_service_that_answers(service: Service) -> None:
    service.run(min_replicas=2, max_replicas=2)
    service.wait_for_replicas(2)
    service.cluster.kill_second()
    end, answered = time.monotonic() + 60, 0
    while answered < 20:  # one after the other
        assert time.monotonic() < end
        try:
            answered = answered + 1 if service.ask()["answers"][0]["text"] == "Agnes Moreau" else 0
        except (AssertionError, OSError):
            answered = 0
    service.wait_for_replicas(1)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"slo": 100}, "slo"),
        ({"budget": "cheap"}, "budget"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas is below min_replicas"),
        ({"slo_ms": float("nan")}, "slo_ms"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_deployed(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        RaySettings(**settings)


def built(arguments: dict[str, Any]) -> Any:
    """Build the application as Ray's commands do."""
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    return call_user_app_builder_with_args_if_necessary(build, arguments)


def test_rays_commands_make_settings_of_text_and_tell_what_is_wrong() -> None:
    assert isinstance(built({"slo_ms": "100", "log_level": "INFO"}), Application)
    with pytest.raises(ValidationError, match="slo"):
        built({"slo": "100"})


def test_settings_may_be_text_as_rays_command_gives_them() -> None:
    found = RaySettings(slo_ms="100", budget="0.5", min_budget="0.3", max_replicas="8", log_text="true").options()
    assert (found.slo_ms, found.budget, found.min_budget, found.log_text) == (100.0, 0.5, 0.3, True)
    assert RaySettings(slo_ms=0).options().slo_ms is None


def test_the_file_in_the_examples_is_what_serve_deploy_takes() -> None:
    import yaml
    from ray.serve.schema import ServeDeploySchema

    file = Path(__file__).parents[2] / "examples/ray-serve.yaml"
    config = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text("utf-8")))
    [application] = config.applications
    assert application.import_path == "dynamic_tinybert.serve.on_ray:build"
    found = RaySettings(**application.args)
    assert isinstance(built({**application.args}), Application)
    assert found.allowed_host == ["localhost", "127.0.0.1"]
