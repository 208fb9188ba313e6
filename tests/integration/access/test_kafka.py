"""Who may do what on brokers with SASL, TLS and Kafka's own authorizer, as `muster topics --acls` sets it up.

One broker serves all tests. Each principal reaches it by SASL_SSL, as over a network.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.admin import DeleteAclsRequest

from chassis.http.health import NotReadyError
from chassis.kafka.acls import Acl, AclOperation, Resource, create_acls
from chassis.kafka.client import Topic, admin, client_arguments, ensure_topics, partitions_of
from chassis.kafka.refusals import KafkaRefusedError
from chassis.postgres.database import Database
from chassis.settings import Kafka, Topics
from cli.doctor.findings import Finding
from cli.doctor.kafka import examine_kafka
from event_api.receipts.groups import committed
from events.user_events import UserRegistered
from local_stack.kafka.broker import KafkaServer
from local_stack.kafka.jars import fetch_jars, jar_folder, pinned_jars
from local_stack.kafka.principals import LOGIN
from local_stack.ports import free_port
from outbox.publishing.publisher import Publisher
from outbox.publishing.segment_rolling import roll_segments
from outbox.settings import RelaySettings
from projectors.fleet import Fleet
from tests.certificates import Authority
from tests.conftest import Copies
from tests.infrastructure import throwaway_folder
from tests.integration.examples.processes import running as running_example
from tests.integration.muster_processes import environment, muster
from tests.integration.outbox.relaying import relaying, settings_for, until_phase
from tests.integration.outbox.traffic import append
from tests.integration.projectors.conftest import make_settings, running
from tests.integration.projectors.stream import FakeRecord, new_user, record
from tests.servers.private_servers import nowhere
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRINCIPALS = ("relay", "projectors", "events", "newsletter", "stranger")
READERS = ("projectors", "events", "newsletter")
TOPICS = Topics.model_construct()
EVENTS, RELAY_TOPIC = TOPICS.events_topic, TOPICS.relay_topic
ACLS = ("--relay", "relay", "--projectors", "User:projectors", "--events", "events", "--subscriber", "newsletter")
SECONDS = 20
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Guarded:
    """The broker, and how each principal reaches it."""

    server: KafkaServer
    tls_port: int
    authority: Path

    def as_principal(self, name: str, **changes: str) -> Kafka:
        """The settings of one of them over TLS; `changes` by variable."""
        tls = {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.tls_port}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CAFILE": str(self.authority),
        }
        return Kafka.model_validate({**self.server.client_settings(name), **tls, **changes})

    def relay(self, name: str, **changes: object) -> RelaySettings:
        """A relay's settings; its database is nowhere."""
        return settings_for(nowhere(), self.as_principal(name), TOPICS, **changes)

    async def allow(self, *acls: Acl) -> None:
        """Give these rights."""
        async with admin(self.as_principal("muster")) as client:
            await create_acls(client, acls)

    async def forbid(self, acl: Acl) -> None:
        """Take a right away; only tests do that."""
        async with admin(self.as_principal("muster")) as client:
            request = DeleteAclsRequest(acl.resource, acl.name, acl.pattern, acl.principal, "*", acl.operation, 3)
            await client._client.send(client._client.get_random_node(), request)

    async def publish(self, item: FakeRecord) -> None:
        """One record on the events topic, in a transaction as the relay's are."""
        producer = AIOKafkaProducer(
            **client_arguments(self.as_principal("relay")), transactional_id="muster.maintenance.users"
        )
        await producer.start()
        try:
            async with producer.transaction():
                await producer.send_and_wait(EVENTS, item.value, key=item.key, headers=list(item.headers))
        finally:
            await producer.stop()

    def variables(self, name: str) -> dict[str, str]:
        """The environment of a process that logs in as this principal."""
        kafka = self.as_principal(name)
        told = environment(kafka, TOPICS, nowhere(), nowhere(), KAFKA_SSL_CAFILE=str(self.authority))
        return {**told, "RELAY_NAME": "users", "PROJECTORS_GROUP": "muster"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded() -> AsyncIterator[Guarded]:
    """With topics and rights as `muster topics --acls` makes them."""
    folder = throwaway_folder()
    authority, tls_port = Authority(folder), free_port()
    pair = authority.sign("broker", "127.0.0.1")
    keystore = folder / "keystore.pem"
    keystore.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes() + authority.file.read_bytes())
    both = "SASL_PLAINTEXT://{host}:{port},SASL_SSL://{host}:" + str(tls_port)
    settings = {
        "listeners": both + ",CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": both,
        "listener.security.protocol.map": ("CONTROLLER:SASL_PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"),
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{LOGIN};",
        "listener.name.sasl_ssl.ssl.keystore.type": "PEM",
        "listener.name.sasl_ssl.ssl.keystore.location": str(keystore),
    }
    server = KafkaServer(folder / "kafka", learn=False, settings=settings, principals=PRINCIPALS)
    async with server:
        guarded = Guarded(server, tls_port, authority.file)
        made = await muster(guarded.variables("muster"), "topics", "--acls", *ACLS)
        assert made.code == 0, made
        publisher = await Publisher.open(guarded.relay("relay"))
        await publisher.publish([], b"{}")
        await publisher.close()
        yield guarded
    await asyncio.to_thread(shutil.rmtree, folder)


async def send(kafka: Kafka, topic: str) -> None:
    """Write one record, outside of any transaction."""
    producer = AIOKafkaProducer(**client_arguments(kafka))
    await producer.start()
    try:
        await asyncio.wait_for(producer.send_and_wait(topic, b"forged", partition=0), SECONDS)
    finally:
        await producer.stop()


async def read(kafka: Kafka, topic: str, group: str | None = None) -> None:
    """Read from one partition, and commit where there is a group; no record has to be there."""
    consumer = AIOKafkaConsumer(**client_arguments(kafka), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        async with asyncio.timeout(SECONDS):
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            await consumer.position(partition)
            await consumer.getmany(partition, timeout_ms=100)
            if group:
                await consumer.commit({partition: 0})
    finally:
        await consumer.stop()


async def test_the_relay_publishes_and_rolls_segments_with_the_rights_that_it_is_given(guarded: Guarded) -> None:
    await roll_segments(guarded.relay("relay"))

    with pytest.raises(TransactionalIdAuthorizationFailed):
        await Publisher.open(guarded.relay("relay", relay_name="another"))


@pytest.mark.parametrize("name", [*READERS, "stranger"])
async def test_nobody_else_writes_the_topics_or_uses_the_relays_transactional_ids(guarded: Guarded, name: str) -> None:
    for topic in (EVENTS, RELAY_TOPIC):
        with pytest.raises(TopicAuthorizationFailedError):
            await send(guarded.as_principal(name), topic)
    with pytest.raises(TransactionalIdAuthorizationFailed):
        await Publisher.open(guarded.relay(name))
    with pytest.raises(TransactionalIdAuthorizationFailed):
        await roll_segments(guarded.relay(name))


@pytest.mark.parametrize("name", READERS)
async def test_readers_read_the_events_and_not_the_relays_own_topic(guarded: Guarded, name: str) -> None:
    await read(guarded.as_principal(name), EVENTS)

    with pytest.raises(TopicAuthorizationFailedError):
        await partitions_of(guarded.as_principal(name), RELAY_TOPIC)


async def test_a_stranger_is_let_in_and_may_do_nothing(guarded: Guarded) -> None:
    for topic in (EVENTS, RELAY_TOPIC):
        with pytest.raises(TopicAuthorizationFailedError):
            await partitions_of(guarded.as_principal("stranger"), topic)
    async with admin(guarded.as_principal("stranger")) as client:
        with pytest.raises(KafkaError):
            await ensure_topics(client, [Topic("of-a-stranger", 1, {})])
        with pytest.raises(KafkaError):
            await create_acls(client, [Acl("User:stranger", AclOperation.WRITE, Resource.TOPIC, EVENTS)])


@pytest.mark.parametrize(
    ("name", "group"),
    [("projectors", "muster.users.g1"), ("newsletter", "newsletter"), ("newsletter", "newsletter.second")],
)
async def test_each_uses_its_own_consumer_groups(guarded: Guarded, name: str, group: str) -> None:
    await read(guarded.as_principal(name), EVENTS, group)


@pytest.mark.parametrize(
    ("name", "group"),
    [("newsletter", "muster.users.g1"), ("newsletter", "newsletters"), ("projectors", "newsletter"), ("events", "any")],
)
async def test_nobody_joins_the_consumer_groups_of_others(guarded: Guarded, name: str, group: str) -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        await read(guarded.as_principal(name), EVENTS, group)


async def test_the_event_api_sees_what_groups_have_committed_and_others_only_of_their_own(guarded: Guarded) -> None:
    await read(guarded.as_principal("newsletter"), EVENTS, "newsletter")

    found = await committed(guarded.as_principal("events"), ["newsletter", "any"], EVENTS, [0])

    assert found == {"newsletter": {0: 0}, "any": {0: 0}}
    found = await committed(guarded.as_principal("newsletter"), ["newsletter", "muster.users.g1"], EVENTS, [0])
    assert found == {"newsletter": {0: 0}}, "one that may not be looked at keeps nobody from the others"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"KAFKA_SASL_PASSWORD": "wrong"}, "does not let relay in (SaslAuthenticationFailed): check KAFKA_SASL"),
        ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "does not let relay in (UnsupportedSaslMechanismError): check KAFKA_SASL"),
        ({"KAFKA_SSL_CAFILE": ""}, "do not agree on TLS"),
    ],
)
async def test_who_is_not_let_in_is_told_why(guarded: Guarded, changes: dict[str, str], said: str) -> None:
    told = guarded.variables("relay") | changes
    ended = await muster(told, "topics")

    assert ended.code == 1
    assert said in " ".join(ended.err.split())
    assert "wrong" not in ended.err
    with pytest.raises(KafkaRefusedError):
        async with admin(guarded.as_principal("relay", **changes)):
            pass


async def test_a_login_that_is_missing_is_named(guarded: Guarded) -> None:
    server = guarded.server.client_settings()["KAFKA_BOOTSTRAP_SERVERS"]
    plain = Kafka.model_validate({"KAFKA_BOOTSTRAP_SERVERS": server, "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"})

    with pytest.raises(KafkaRefusedError, match="answers nothing without a login: check KAFKA_SECURITY_PROTOCOL"):
        async with admin(plain):
            pass


async def test_rights_are_printed_and_giving_them_again_changes_nothing(guarded: Guarded) -> None:
    first = await muster(guarded.variables("muster"), "topics", "--acls", *ACLS, "--json")
    dry = await muster(guarded.variables("stranger"), "topics", "--acls", *ACLS, "--dry-run")

    assert first.code == dry.code == 0
    assert json.loads(first.out)["acls"] == dry.out.splitlines()
    assert [line for line in dry.out.splitlines() if "WRITE" in line] == [
        "User:relay may WRITE transactional id muster.relay.users",
        "User:relay may WRITE transactional id muster.maintenance.users",
        f"User:relay may WRITE topic {EVENTS}",
        f"User:relay may WRITE topic {RELAY_TOPIC}",
    ]


async def test_who_may_not_configure_topics_or_give_rights_is_told_so(guarded: Guarded) -> None:
    ended = await muster(guarded.variables("relay"), "topics", "--acls", *ACLS)

    assert ended.code == 1
    assert "this principal has not the right" in ended.err
    # A refused change of a topic's configuration is no success.
    changed = guarded.variables("relay") | {"TOPIC_SEGMENT_MS": "100000"}
    await guarded.allow(Acl("User:relay", AclOperation.DESCRIBE_CONFIGS, Resource.TOPIC, RELAY_TOPIC))
    ended = await muster(changed, "topics")
    assert ended.code == 1
    assert "TopicAuthorizationFailedError" in ended.err


async def test_a_tail_without_rights_ends_with_the_reason(guarded: Guarded) -> None:
    ended = await muster(guarded.variables("stranger"), "events", "tail")

    assert ended.code == 1
    assert "Kafka refuses: this principal has not the right" in ended.err
    assert "`muster topics --acls --relay NAME" in ended.err


@pytest.mark.parametrize("missing", ["every right", "the right to write events"])
async def test_a_relay_without_rights_says_so_and_goes_on_once_it_has_them(
    guarded: Guarded, command_databases: Copies, missing: str
) -> None:
    if missing == "every right":
        lacking = "stranger"
    else:
        lacking = "newsletter"
        await guarded.allow(
            Acl("User:newsletter", AclOperation.WRITE, Resource.TRANSACTIONAL_ID, "muster.relay.poor"),
            Acl("User:newsletter", AclOperation.READ, Resource.TOPIC, RELAY_TOPIC),
            Acl("User:newsletter", AclOperation.WRITE, Resource.TOPIC, RELAY_TOPIC),
            Acl("User:newsletter", AclOperation.DESCRIBE_CONFIGS, Resource.TOPIC, EVENTS),
        )
    async with command_databases.one() as database:
        connection = await asyncpg.connect(**database.connect_arguments)
        await append(connection, uuid4(), 1)
        settings = settings_for(database, guarded.as_principal(lacking), TOPICS, relay_name="poor")
        async with relaying(settings) as relay:

            async def told() -> bool:
                return "--events NAME` gives each principal its rights" in relay.state.reason

            await until(told, within=SECONDS, what="the relay to name what is missing")
            if missing == "the right to write events":
                await guarded.allow(Acl("User:newsletter", AclOperation.WRITE, Resource.TOPIC, EVENTS))
                await until_phase(relay, "leading")
        await connection.close()


async def test_projectors_without_rights_say_so_where_one_asks_whether_they_are_ready(
    guarded: Guarded, query_databases: Copies
) -> None:
    async with query_databases.one() as address, Database.open(address, application="tests") as database:
        settings = make_settings(guarded.as_principal("stranger"), TOPICS, address)
        fleet = Fleet(settings, database, ["users"])
        async with running(fleet.run):

            async def told() -> bool:
                try:
                    await fleet.check_ready()
                except NotReadyError as error:
                    return "--events NAME` gives each principal its rights" in str(error)
                return False

            await until(told, within=SECONDS, what="the projectors to name what is missing")


async def test_the_doctor_says_who_may_write_and_where_it_may_not_look(guarded: Guarded) -> None:
    async def findings(name: str) -> dict[str, Finding]:
        return {each.check: each for each in await examine_kafka(guarded.relay(name))}

    writers = f"writers of {EVENTS}"
    whole, partial = await findings("muster"), await findings("relay")

    assert {each.result for each in whole.values()} == {"ok"}
    assert "User:relay" in whole[writers].found
    assert (partial[writers].result, partial["Kafka"].result) == ("warning", "warning")
    assert "may not look" in partial[writers].found
    assert "may not look" in partial["Kafka"].found
    nothing = (await findings("stranger"))["Kafka"]
    assert (nothing.result, "has not the right" in nothing.found) == ("failed", True)


@pytest.mark.parametrize("name", [EVENTS, RELAY_TOPIC, "muster.relay.users", "muster.maintenance.users"])
async def test_the_doctor_says_when_everybody_may_write_what_is_the_relays(guarded: Guarded, name: str) -> None:
    is_topic = name in {EVENTS, RELAY_TOPIC}
    resource = Resource.TOPIC if is_topic else Resource.TRANSACTIONAL_ID
    everybody = Acl("User:*", AclOperation.WRITE, resource, name)
    await guarded.allow(everybody)
    try:
        findings = {each.check: each for each in await examine_kafka(guarded.relay("muster"))}
    finally:
        await guarded.forbid(everybody)

    told = findings.pop(f"{'writers' if is_topic else 'users'} of {name}")
    assert (told.result, told.found) == ("warning", "anybody: an ACL allows it to User:*")
    assert {each.result for each in findings.values()} == {"ok"}


async def test_the_doctor_does_not_say_that_all_is_well_of_brokers_at_which_it_may_not_look(guarded: Guarded) -> None:
    sees_acls = Acl("User:relay", AclOperation.DESCRIBE, Resource.CLUSTER, "kafka-cluster")
    await guarded.allow(sees_acls)
    try:
        found = await examine_kafka(guarded.relay("relay", relay_name="another"))
    finally:
        await guarded.forbid(sees_acls)

    findings = {each.check: each for each in found}
    unnamed, writers = findings["users of muster.relay.another"], findings[f"writers of {EVENTS}"]
    assert (unnamed.result, unnamed.found.partition(":")[0]) == ("warning", "not known")
    assert (writers.result, "User:relay" in writers.found) == ("ok", True)


async def test_a_subscriber_whose_groups_would_be_anothers_gets_no_rights(guarded: Guarded) -> None:
    parts = ACLS[: ACLS.index("--subscriber")]
    ended = await muster(guarded.variables("muster"), "topics", "--acls", *parts, "--subscriber", "newsletter.daily")
    assert (ended.code, "would share groups with User:newsletter" in ended.err) == (2, True), ended
    again = await muster(guarded.variables("muster"), "topics", "--acls", *ACLS)
    assert again.code == 0, again


async def test_brokers_without_an_authorizer_are_open_and_both_commands_say_so(
    guarded: Guarded, server_folder: Path
) -> None:
    async with KafkaServer(server_folder / "kafka", learn=False) as server:
        told = guarded.variables("muster") | {"KAFKA_SASL_USERNAME": "", "KAFKA_SASL_PASSWORD": ""}
        told |= {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"} | server.client_settings()
        ended = await muster(told, "topics", "--acls", *ACLS)
        open_relay = guarded.relay("relay").model_copy(
            update={"kafka_bootstrap_servers": server.bootstrap_servers, "kafka_security_protocol": "PLAINTEXT"}
        )
        [finding] = [each for each in await examine_kafka(open_relay) if each.check.startswith("writers")]

    assert ended.code == 1
    assert "has no authorizer, so anybody may do anything" in ended.err
    assert (finding.result, "anybody who reaches the brokers" in finding.found) == ("warning", True)


def _script(where: str) -> str:
    """What the pages have somebody type who makes a subscriber named welcome-mail and looks at the topic."""
    pages = ("docs/how-to/subscribe.md", "docs/how-to/send-welcome-mails.md", "examples/console_consumer.md")
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in pages]
    script = "\n".join(
        block for text in texts for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    )
    replacements = {
        "NAME=newsletter": "NAME=welcome-mail",
        "127.0.0.1:9092": where,
        ".venv/bin/": f"{Path(sys.executable).parent}/",
        # Until it is ended, as the page says.
        "--timeout-ms 10000": "",
    }
    for said, meant in replacements.items():
        assert said in script
        script = script.replace(said, meant)
    return script


async def _first_line(script: str, wanted: str, folder: Path, told: dict[str, str]) -> str:
    """The first line with these words that a script prints, which may go on for ever."""
    errors = folder / "errors.txt"
    with errors.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            "sh", "-euc", script, cwd=folder, env=told, stdout=asyncio.subprocess.PIPE, stderr=written,
            start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            async for line in process.stdout:
                if wanted in line.decode():
                    return line.decode()
        raise AssertionError(f"it ended without {wanted}: {errors.read_text()}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def test_a_subscriber_gets_its_login_and_reads_with_it_as_the_pages_say(
    guarded: Guarded, server_folder: Path
) -> None:
    """With Kafka's own console consumer, and as the service that welcomes people."""
    await fetch_jars(pinned_jars(), jar_folder())
    user, where = new_user(now=datetime.now(UTC)), guarded.server.bootstrap_servers
    await guarded.publish(record(UserRegistered(user=user), now=user.created_at))
    (server_folder / ".local").mkdir()
    (server_folder / ".local" / "client.properties").write_text(guarded.server.client_properties())
    told = guarded.variables("muster") | {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1", "PYTHONPATH": str(ROOT)}

    line = await _first_line(_script(where), user.email, server_folder, told)
    assert "ce_type:muster.user.registered.v1" in line
    assert str(user.id) in line

    properties = (server_folder / "welcome-mail.properties").read_text()
    out = server_folder / "mails.txt"
    told = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KAFKA")},
        "KAFKA_BOOTSTRAP_SERVERS": where,
        "KAFKA_SASL_USERNAME": "welcome-mail",
        "KAFKA_SASL_PASSWORD": properties.partition('password="')[2].partition('"')[0],
        "WELCOME_MAIL_FILE": str(server_folder / "seen.sqlite"),
    }
    arguments = ("run", "examples.welcome_mail:app", "--host", "127.0.0.1", "--port", str(free_port()))
    async with running_example("faststream", *arguments, environment=told, out=out):

        async def written() -> bool:
            return out.exists() and f"To: {user.email}\n" in out.read_text()

        await until(written, within=60, what="the mail")
