"""The issuer's keys: kept through any outage, renewed in time, and never fetched as often as strangers would like."""

import asyncio
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from chassis.access import authenticator as module
from chassis.access import issuer_keys
from chassis.access.authenticator import Authenticator
from chassis.access.issuer_keys import IssuerKeys
from chassis.access.keys import Key, read_key_set
from chassis.access.tokens import Expectations, UnverifiedToken
from chassis.http.health import NotReadyError
from chassis.http.problems import Problem
from tests.unit.chassis.access.forging import AUDIENCE, ISSUER, NOW, OTHER_ED, key_set, sign
from tests.waiting import until

EXPECTED = Expectations(ISSUER, AUDIENCE, ("EdDSA", "ES256", "RS256"), 30)


class Issuer:
    """An issuer that publishes some of the keys, and can be away or slow."""

    def __init__(self, *key_ids: str) -> None:
        self.key_ids = key_ids
        self.error: Exception | None = None
        self.document: bytes | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = 0

    async def fetch(self) -> bytes:
        self.asked += 1
        await self.answering.wait()
        if self.error:
            raise self.error
        if self.document is not None:
            return self.document
        return key_set(self.key_ids)


async def fetched(issuer: Issuer, times: int) -> None:
    async def asked() -> bool:
        return issuer.asked >= times

    await until(asked, within=5, what=f"{times} fetches")


async def generation(keys: IssuerKeys, number: int) -> None:
    async def reached() -> bool:
        return keys.generation == number

    await until(reached, within=5, what=f"set {number} of keys")


async def test_a_known_key_never_waits_for_a_fetch() -> None:
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=0.01) as keys:
        await generation(keys, 1)
        issuer.answering.clear()
        await fetched(issuer, issuer.asked + 1)

        async with asyncio.timeout(0.5):
            assert len(await keys.find("EdDSA", "ed")) == 1


async def test_keys_are_kept_while_the_issuer_is_away() -> None:
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=0.01) as keys:
        await generation(keys, 1)
        for error, document in (
            (OSError("no route"), None),
            (None, b"<html>busy</html>"),
            (None, b'{"keys":[]}'),
            (None, b'{"keys":[{"kty":"oct","k":"AAAA","kid":"ed"}]}'),
            (None, b'{"keys":"none"}'),
        ):
            issuer.error, issuer.document = error, document
            await fetched(issuer, issuer.asked + 2)

            assert len(await keys.find("EdDSA", "ed")) == 1
            await keys.check()


async def test_fetches_are_counted_by_what_became_of_them() -> None:
    def counted(outcome: str) -> float:
        return REGISTRY.get_sample_value("muster_issuer_key_fetches_total", {"outcome": outcome}) or 0.0

    done, failed = counted("done"), counted("failed")
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=0.01) as keys:
        await generation(keys, 1)
        issuer.error = OSError("no route")
        await fetched(issuer, issuer.asked + 2)

    assert counted("done") > done
    assert counted("failed") > failed


async def test_a_new_key_is_found_when_it_is_met_without_notice() -> None:
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        await generation(keys, 1)
        issuer.key_ids = ("ed", "es")

        assert [key.key_id for key in await keys.find("ES256", "es")] == ["es"]


async def test_a_token_without_a_key_id_meets_a_new_key_without_notice_too() -> None:
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        await generation(keys, 1)
        authenticator = Authenticator(EXPECTED, keys, now=lambda: NOW)
        issuer.key_ids = ("es",)
        token = f"Bearer {sign('es', header={'kid': None})}"

        assert (await authenticator.authenticate(token)).subject == "shop"
        assert issuer.asked == 2


async def test_tokens_without_a_key_id_lead_to_one_fetch_and_a_bounded_number_of_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issuer, checks = Issuer("ed"), list[Key]()
    is_signed_with = module.is_signed_with

    def counting(key: Key, unverified: UnverifiedToken) -> bool:
        checks.append(key)
        return is_signed_with(key, unverified)

    monkeypatch.setattr(module, "is_signed_with", counting)
    forged = f"Bearer {sign('ed', header={'kid': None}, key=OTHER_ED)}"
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        await generation(keys, 1)
        authenticator = Authenticator(EXPECTED, keys, now=lambda: NOW)
        for _ in range(20):
            with pytest.raises(Problem, match="not signed with a key"):
                await authenticator.authenticate(forged)
        assert (issuer.asked, len(checks)) == (2, 20)

        (listed,) = json.loads(key_set(["ed"]))["keys"]
        many = [{**listed, "kid": f"ed{number}"} for number in range(module.MOST_TRIED + 1)]
        keys._replace(read_key_set(json.dumps({"keys": many}).encode()))
        with pytest.raises(Problem, match="it must name one"):
            await authenticator.authenticate(f"Bearer {sign('ed', header={'kid': None})}")
        assert len(checks) == 20


async def test_a_process_that_knows_no_keys_says_so_of_itself_and_not_of_the_token() -> None:
    issuer = Issuer("ed")
    issuer.error = OSError("no route to the issuer")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        authenticator = Authenticator(EXPECTED, keys, now=lambda: NOW)
        for token in (sign(), sign(header={"kid": None})):
            with pytest.raises(Problem, match="does not know the issuer's keys yet"):
                await authenticator.authenticate(f"Bearer {token}")


#: Anything that JSON can say.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ("kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "n", "e", "d")
#: What might be a key: right members with anything in them, or anything in the place of one member of a right key.
DAMAGED = st.one_of(
    JSON,
    st.dictionaries(
        st.sampled_from(MEMBERS),
        JSON | st.sampled_from(["OKP", "EC", "RSA", "P-256", "secp256k1", "Ed25519", "X448", "AQAB", "AA", "sig"]),
    ),
    st.tuples(
        st.sampled_from(json.loads(key_set())["keys"]),
        st.sampled_from(MEMBERS),
        JSON | st.sampled_from(["AQ", "Ed448"]),
    ).map(lambda drawn: {**drawn[0], drawn[1]: drawn[2]}),
)


@given(st.lists(DAMAGED, max_size=4))
@example([{"kty": []}])
@example([{"kty": {}}])
@example([{"kty": "EC", "crv": [], "x": "AA", "y": "AA"}])
@example([{"kty": "RSA", "n": "AA", "e": "AA"}])
@example([{"kty": "RSA", "n": 1, "e": {}}])
@example([{"kty": "OKP", "crv": "Ed25519", "x": "!"}])
def test_a_key_that_cannot_be_read_is_passed_over_whatever_is_wrong_with_it(damaged: list[object]) -> None:
    (good,) = json.loads(key_set(["es"]))["keys"]

    found = read_key_set(json.dumps({"keys": [*damaged, {**good, "kid": "the good one"}]}).encode())

    assert "the good one" in {key.key_id for key in found}


async def test_a_thousand_unknown_ids_lead_to_one_fetch() -> None:
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        await generation(keys, 1)

        found = await asyncio.gather(*(keys.find("EdDSA", f"unknown-{number}") for number in range(1000)))

        assert not any(found)
        assert issuer.asked == 2
        assert not await keys.find("EdDSA", "unknown-again")
        assert issuer.asked == 2


async def test_a_bounded_number_waits_and_no_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(issuer_keys, "MOST_WAITING", 3)
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        await generation(keys, 1)
        issuer.answering.clear()
        waiting = [asyncio.create_task(keys.find("EdDSA", f"unknown-{number}")) for number in range(10)]
        done, pending = await asyncio.wait(waiting, timeout=0.1)

        assert (len(done), len(pending)) == (7, 3)
        async with asyncio.timeout(2):
            assert not any(await asyncio.gather(*pending))
        issuer.answering.set()


async def test_what_a_removed_key_has_signed_ends_with_the_next_good_fetch() -> None:
    issuer = Issuer("ed", "es")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=0.01) as keys:
        await generation(keys, 1)
        authenticator = Authenticator(EXPECTED, keys, now=lambda: NOW)
        kept, ended = sign("es"), sign("ed")
        for token in (kept, ended):
            await authenticator.authenticate(f"Bearer {token}")
        lets = [(await authenticator.admit(f"Bearer {token}")).seconds_left for token in (kept, ended)]
        assert [left() for left in lets] == [630, 630]
        issuer.key_ids = ("es",)
        await generation(keys, 2)

        with pytest.raises(Problem):
            await authenticator.authenticate(f"Bearer {ended}")
        assert (await authenticator.authenticate(f"Bearer {kept}")).subject == "shop"
        assert [left() for left in lets] == [630, 0]


async def test_a_process_without_keys_is_not_ready_and_becomes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "RETRY_SECONDS", 0.01)
    issuer = Issuer("ed")
    issuer.error = OSError("no route to the issuer")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        await fetched(issuer, 2)
        with pytest.raises(NotReadyError, match="no route to the issuer"):
            await keys.check()
        issuer.error = None

        await generation(keys, 1)
        await keys.check()


async def test_a_remembered_token_is_not_verified_again_and_its_times_are_looked_at_each_time() -> None:
    issuer, clock = Issuer("ed"), [float(NOW)]
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        authenticator = Authenticator(EXPECTED, keys, now=lambda: clock[0])
        token = f"Bearer {sign()}"
        first = await authenticator.authenticate(token)

        assert await authenticator.authenticate(token) is first
        clock[0] = NOW + 629.5
        assert await authenticator.authenticate(token) is first
        clock[0] = NOW + 630
        with pytest.raises(Problem, match="expired"):
            await authenticator.authenticate(token)
        clock[0] = NOW - 41
        with pytest.raises(Problem, match="not valid yet"):
            await authenticator.authenticate(token)


async def test_no_more_tokens_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.access.authenticator.MOST_REMEMBERED", 5)
    issuer = Issuer("ed")
    async with IssuerKeys.open(issuer.fetch, refresh_seconds=300) as keys:
        authenticator = Authenticator(EXPECTED, keys, now=lambda: NOW)
        for number in range(12):
            await authenticator.authenticate(f"Bearer {sign(said=None, header={'n': number})}")

        assert len(authenticator._remembered) == 5
