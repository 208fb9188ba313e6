"""The variables of traces: what they mean, and what is said of mistakes."""

from typing import Any

import pytest
from pydantic import ValidationError

from chassis.settings import explain
from chassis.tracing.settings import Tracing


def settings(**variables: Any) -> Tracing:
    return Tracing(_env_file=None, **variables)


def test_an_endpoint_is_where_all_signals_go_and_headers_are_percent_encoded() -> None:
    told = settings(
        OTEL_EXPORTER_OTLP_ENDPOINT="https://otlp.example.com/muster/",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Basic%20YW5u,x-scope = users,empty=",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=a%2Cb",
    )

    assert told.traces_url == "https://otlp.example.com/muster/v1/traces"
    assert told.traces_headers == {"authorization": "Basic YW5u", "x-scope": "users", "empty": ""}
    assert told.resource_attributes == {"deployment.environment.name": "a,b"}


def test_without_any_there_are_no_traces() -> None:
    told = settings()

    assert (told.traces_url, told.traces_headers, told.resource_attributes) == (None, {}, {})


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"}, "is no http or https URL"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "hush"}, "must be name=value pairs"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%0Ab"}, "must have printable ASCII characters"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "parentbased_traceidratio"),
        ({"OTEL_TRACES_SAMPLER_ARG": "10"}, "less than or equal to 1"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "production"}, "must be name=value pairs"),
    ],
)
def test_a_mistake_is_told_by_its_variable_and_a_secret_is_not_repeated(variables: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**variables)

    (line,) = explain(Tracing, refused.value)
    assert line.startswith(next(iter(variables)))
    assert said in line
    assert "hush" not in line
