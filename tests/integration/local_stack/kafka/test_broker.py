import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from local_stack.cache import CACHE_VARIABLE
from local_stack.errors import LocalStackError
from local_stack.kafka.broker import KafkaServer, kafka_answers, start_up_cache
from local_stack.kafka.fencing import FENCED
from local_stack.kafka.jars import fetch_jars, jar_folder, pinned_jars

KEPT = TopicPartition("kept", 0)


async def test_keeps_its_records_through_kill_and_restart_and_paths_with_any_letters(folder: Path) -> None:
    async with KafkaServer(folder / "Käfka, with space", learn=False) as server:
        await _produce(server, b"acknowledged")

        await server.kill()
        assert not await kafka_answers(server.bootstrap_servers)
        await server.start()

        assert await _consume(server) == b"acknowledged"
        assert FENCED in (server.folder / "recovery.log").read_text(), "it met its former self, and may lose markers"


async def test_what_stands_where_its_data_should_be_is_refused_and_left_alone(folder: Path) -> None:
    mine = folder / "data" / "photo.jpg"
    mine.parent.mkdir()
    mine.touch()

    with pytest.raises(LocalStackError, match="nothing of it was touched"):
        await KafkaServer(folder, learn=False).start()

    assert [path.name for path in mine.parent.iterdir()] == ["photo.jpg"]


async def test_needs_no_recovery_after_an_orderly_end(folder: Path) -> None:
    async with KafkaServer(folder / "kafka", learn=False) as server:
        await _produce(server, b"acknowledged")

        await server.restart()

        assert await _consume(server) == b"acknowledged"
        assert not await asyncio.to_thread((server.folder / "recovery.log").exists)


async def test_starts_despite_a_broken_start_up_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jars = await fetch_jars(pinned_jars(), jar_folder())
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    jar_folder().mkdir(parents=True)
    links = [jar_folder() / jar.name for jar in jars]
    for link, jar in zip(links, jars, strict=True):
        link.symlink_to(jar)
    start_up_cache(links).write_bytes(b"no cache at all")

    async with KafkaServer(folder / "kafka") as server:
        assert not server.learning
        assert await kafka_answers(server.bootstrap_servers)


async def _produce(server: KafkaServer, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(KEPT.topic, 1, 1)])
    finally:
        await admin.close()
    # A transactional producer also needs the coordinator's own topic, with its replication of one.
    producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap_servers, transactional_id="tried")
    await producer.start()
    try:
        async with asyncio.timeout(20), producer.transaction():
            await producer.send_and_wait(KEPT.topic, value)
    finally:
        await producer.stop()


async def _consume(server: KafkaServer) -> bytes | None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=server.bootstrap_servers, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        consumer.assign([KEPT])
        record = await asyncio.wait_for(consumer.getone(), 20)
        value: bytes | None = record.value
        return value
    finally:
        await consumer.stop()
