"""The envelope of an outbox row, as a consumer will read it."""

from aiokafka.record.default_records import DefaultRecordBatch

from events.envelope import Envelope, read_envelope
from outbox.publishing.record_batch import RecordBatch

#: Neither key nor value.
NOTHING = b"\x01\x01"


def envelope_of(headers: bytes) -> Envelope:
    """What the column `headers` holds, read by aiokafka's own decoder."""
    (record,) = DefaultRecordBatch(RecordBatch([NOTHING + headers], 0)._build())
    return read_envelope(record.headers)
