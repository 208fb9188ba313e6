"""The issuer's keys: kept through any outage, renewed in time, and never fetched as often as strangers would like."""

import asyncio
import json

import pytest
from prometheus_client import REGISTRY

from chassis.access import issuer_keys
from chassis.access.authenticator import Authenticator
from chassis.access.issuer_keys import IssuerKeys
from chassis.access.tokens import Expectations
from chassis.http.health import NotReadyError
from chassis.http.problems import Problem
from tests.unit.chassis.access.forging import AUDIENCE, ISSUER, NOW, key_set, sign
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
        listed = json.loads(key_set())["keys"]
        return json.dumps({"keys": [key for key in listed if key["kid"] in self.key_ids]}).encode()


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
