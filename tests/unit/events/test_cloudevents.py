"""The corpus before the CloudEvents SDK: its Kafka binding reads every record as the event that it is."""

import json
from pathlib import Path

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat

from contract.corpus import CorpusRecord, read_corpus
from events import Erased, UserEvent, decode

CORPUS = read_corpus(Path(__file__).parents[3] / "events" / "corpus")


@pytest.mark.parametrize("record", CORPUS, ids=lambda record: record.name)
def test_the_sdk_reads_a_record_as_the_kit_does(record: CorpusRecord) -> None:
    ours = decode(record.key, record.headers, record.value)
    assert isinstance(ours, UserEvent | Erased)

    message = KafkaMessage({name: value or b"" for name, value in record.headers}, record.key, record.value or b"")
    event = from_kafka(message, JSONFormat())

    assert event.get_specversion() == "1.0"
    assert (event.get_id(), event.get_time(), event.get_subject()) == (ours.id, ours.time, str(ours.user_id))
    assert event.get_type() == record.type
    assert int(event.get_extension("sequence")) == ours.version
    assert event.get_extension("actor") == ours.actor
    assert event.get_data() == (json.loads(record.value) if record.value else None)
