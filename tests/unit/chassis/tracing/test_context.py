"""What `traceparent` says, and which traces are recorded."""

import random

import pytest

from chassis.tracing.context import SpanContext, read_traceparent
from chassis.tracing.sampling import SamplerName, sampler

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
#: The ends of ids that samplers look at.
LEAST, GREATEST = 0, 2**64 - 1


def test_a_context_is_read_as_it_is_written() -> None:
    for flags, is_sampled in (("00", False), ("01", True), ("03", True), ("02", False)):
        context = read_traceparent(f"00-{TRACE}-{SPAN}-{flags}")

        assert context == SpanContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), is_sampled)
        assert context.traceparent == f"00-{TRACE}-{SPAN}-0{int(is_sampled)}"
        assert context.end_of_id == int(TRACE[16:], 16)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01-{'x' * 128}",
    ],
)
def test_a_broken_context_is_none(header: str | None) -> None:
    assert read_traceparent(header) is None


def test_a_later_version_may_say_more() -> None:
    assert read_traceparent(f"01-{TRACE}-{SPAN}-01-more") == SpanContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN))


@pytest.mark.parametrize(
    ("name", "without_parent"),
    [("always_on", (True, True)), ("always_off", (False, False)), ("traceidratio", (True, False))],
)
@pytest.mark.parametrize("parent", [None, True, False])
def test_a_sampler_decides_by_the_id_and_where_it_says_so_by_the_parent(
    name: SamplerName, without_parent: tuple[bool, bool], parent: bool | None
) -> None:
    caller = None if parent is None else SpanContext(bytes(16), bytes(8), parent)
    alone, asking = sampler(name, 0.5), sampler(f"parentbased_{name}", 0.5)  # type: ignore[arg-type] # put together

    assert (alone(LEAST, caller), alone(GREATEST, caller)) == without_parent
    expected = without_parent if parent is None else (parent, parent)
    assert (asking(LEAST, caller), asking(GREATEST, caller)) == expected


@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_a_ratio_records_its_share_of_traces(ratio: float) -> None:
    rng, samples = random.Random(1), sampler("traceidratio", ratio)

    found = sum(samples(rng.getrandbits(64), None) for _ in range(10_000))

    assert abs(found - ratio * 10_000) <= 100
