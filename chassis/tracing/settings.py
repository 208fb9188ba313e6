"""Where traces go and which are recorded, by the variables of the OpenTelemetry specification."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import unquote

from pydantic import Field, SecretStr, field_validator

from chassis.settings import HttpUrl, Settings, split_list
from chassis.tracing.sampling import SamplerName

#: Where below the endpoint a collector takes traces.
_PATH: Final = "/v1/traces"


class Tracing(Settings):
    """The traces of a process. Without an endpoint there are none, whatever else is set."""

    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", examples=["http://127.0.0.1:4318"]
    )
    #: Here so that who asks for gRPC is told, and does not wait for traces.
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", validation_alias="OTEL_EXPORTER_OTLP_PROTOCOL", examples=["http/protobuf"]
    )
    #: Secret, since a collector's key is among them.
    otel_exporter_otlp_headers: SecretStr | None = Field(
        None, validation_alias="OTEL_EXPORTER_OTLP_HEADERS", examples=["api-key=a-long-secret"]
    )
    otel_traces_sampler: SamplerName = Field(
        "parentbased_always_on", validation_alias="OTEL_TRACES_SAMPLER", examples=["parentbased_traceidratio"]
    )
    otel_traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, validation_alias="OTEL_TRACES_SAMPLER_ARG", examples=["0.1"]
    )
    otel_resource_attributes: str = Field(
        "", validation_alias="OTEL_RESOURCE_ATTRIBUTES", examples=["deployment.environment.name=production"]
    )

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def _are_sendable(cls, value: SecretStr | None) -> SecretStr | None:
        for name, header in _pairs(value.get_secret_value() if value else "").items():
            if not f"{name}{header}".isascii() or not f"{name}{header}".isprintable():
                raise ValueError("must have printable ASCII characters alone, also where they are percent-encoded")
        return value

    @field_validator("otel_resource_attributes")
    @classmethod
    def _are_pairs(cls, value: str) -> str:
        _pairs(value)
        return value

    @property
    def traces_url(self) -> str | None:
        """Where traces are sent; None: nowhere."""
        return self.otel_exporter_otlp_endpoint and self.otel_exporter_otlp_endpoint + _PATH

    @property
    def traces_headers(self) -> dict[str, str]:
        """What is sent with them."""
        given = self.otel_exporter_otlp_headers
        return _pairs(given.get_secret_value() if given else "")

    @property
    def resource_attributes(self) -> dict[str, str]:
        """What an operator says of the process."""
        return _pairs(self.otel_resource_attributes)


def _pairs(text: str) -> dict[str, str]:
    """`name=value,name=value`, values percent-encoded.

    Raises:
        ValueError: it is something else.
    """
    found = {}
    for pair in split_list(text):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals):
            raise ValueError("must be name=value pairs, separated by commas")
        found[name] = unquote(value)
    return found
