"""What the operators of other projects need of their objects: the part of their schemas that the chart uses.

kubernetes-validate has Kubernetes's own alone. Every field that is not here is refused, so that a misspelt one shows.
Sources: KEDA's reference of ScaledObject and of its scaler "prometheus"; the Prometheus operator's API reference.
"""

from typing import Any, Final

from jsonschema_rs import Draft202012Validator

_TEXT: Final = {"type": "string", "pattern": r"\S"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}


def _closed(*required: str, **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others, all of which are there that are `required`."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": item}


_TRIGGER: Final = _closed(
    "type", "metadata",
    type={"const": "prometheus"},
    metricType={"enum": ["AverageValue", "Value"]},
    metadata=_closed(
        "serverAddress", "query", "threshold",
        serverAddress={"type": "string", "pattern": "^https?://"},
        query=_TEXT,
        # KEDA's metadata are texts, and this one a number's.
        threshold={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
    ),
)  # fmt: skip
_BEHAVIOR: Final = _closed(
    scaleUp={"type": "object", "properties": {"stabilizationWindowSeconds": _COUNT}},
    scaleDown={"type": "object", "properties": {"stabilizationWindowSeconds": _COUNT}},
)
_RULE: Final = {
    **_closed("expr", alert=_TEXT, record=_TEXT, expr=_TEXT, labels=_TEXTS, annotations=_TEXTS, **{"for": _TEXT}),
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}
#: The `apiVersion` and the schema of `spec`, by kind.
SCHEMAS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "ScaledObject": (
        "keda.sh/v1alpha1",
        _closed(
            "scaleTargetRef", "triggers",
            scaleTargetRef=_closed("name", name=_TEXT),
            minReplicaCount=_COUNT,
            maxReplicaCount=_COUNT,
            triggers=_list_of(_TRIGGER),
            advanced=_closed(horizontalPodAutoscalerConfig=_closed(behavior=_BEHAVIOR)),
        ),
    ),
    "ServiceMonitor": (
        "monitoring.coreos.com/v1",
        _closed(
            "selector", "endpoints",
            jobLabel=_TEXT,
            selector=_closed("matchLabels", matchLabels=_TEXTS),
            endpoints=_list_of(_closed("port", port=_TEXT, path=_TEXT, interval=_TEXT)),
        ),
    ),
    "PrometheusRule": (
        "monitoring.coreos.com/v1",
        _closed("groups", groups=_list_of(_closed("name", "rules", name=_TEXT, interval=_TEXT, rules=_list_of(_RULE)))),
    ),
}  # fmt: skip


def faults(given: dict[str, Any]) -> list[str]:
    """What is wrong with an object of one of those kinds."""
    version, schema = SCHEMAS[given["kind"]]
    found = [] if given["apiVersion"] == version else [f"apiVersion is {given['apiVersion']}, not {version}"]
    errors = Draft202012Validator(schema).iter_errors(given["spec"])
    return found + [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in errors]
