"""Record batches as brokers store them (Kafka's message format 2), made of whole events.

aiokafka's builder takes every header of every record apart, and compresses at a level that no other client uses: that
was half of the relay's work. Here a record is a join of key, value and headers that were encoded when the event was
appended (outbox/headers.py), and a page is compressed while the one before it is in flight. `RecordBatch` has what
`AIOKafkaProducer.send_batch` calls, so aiokafka still does the sending, sequence numbers and retries.

Source: the Kafka protocol guide's "Record Batch" and "Record".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aiokafka.codec import lz4_encode
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import calc_crc32c

from outbox.headers import varint
from outbox.table import OutboxRow

_HEADER: Final = DefaultRecordBase.HEADER_STRUCT
_HEADER_BYTES: Final[int] = _HEADER.size
_CRC_OFFSET: Final = DefaultRecordBase.CRC_OFFSET
#: The checksum is of everything behind it.
_CRC_END: Final = DefaultRecordBase.ATTRIBUTES_OFFSET
_ATTRIBUTES: Final = DefaultRecordBase.CODEC_LZ4 | DefaultRecordBase.TRANSACTIONAL_MASK
_MAGIC: Final = 2

#: LZ4's fast mode, as Kafka's own clients have it by default. aiokafka's 9 is the slow mode: 4 to 16 times the CPU for
#: 1 % fewer bytes (events of 350 bytes, of one character and of random letters).
LZ4_LEVEL: Final = 1
#: Length, attributes and deltas before a record, at most.
_PREFIX_BYTES: Final = 12
#: No attributes, and no delta of time; the place in the batch follows.
_NO_DELTA: Final = b"\0\0"
#: The length -1: there is no value, the event is a tombstone.
_NULL: Final = b"\x01"


class RecordBatch:
    """A finished batch of a transactional producer, with the methods that aiokafka's `send_batch` calls."""

    def __init__(self, records: Sequence[bytes], timestamp_ms: int) -> None:
        """Make it of records of `encode_event`, in their order; all get the same timestamp."""
        self._count = len(records)
        self._timestamp_ms = timestamp_ms
        self._records = lz4_encode(_frame(records), level=LZ4_LEVEL)
        self._producer = (-1, -1, -1)

    def record_count(self) -> int:
        """Its number of records."""
        return self._count

    def size(self) -> int:
        """Its bytes as it is sent."""
        return _HEADER_BYTES + len(self._records)

    def closed(self) -> bool:
        """Always: nothing is ever added."""
        return True

    def close(self) -> None:
        """Nothing to do."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        """The batch as it is sent; the broker fills in base offset and leader epoch."""
        length, last, time = self.size() - DefaultRecordBase.AFTER_LEN_OFFSET, self._count - 1, self._timestamp_ms
        header = bytearray(_HEADER_BYTES)
        _HEADER.pack_into(
            header, 0, 0, length, -1, _MAGIC, 0, _ATTRIBUTES, last, time, time, *self._producer, self._count
        )
        batch = header + self._records
        batch[_CRC_OFFSET:_CRC_END] = calc_crc32c(memoryview(batch)[_CRC_END:]).to_bytes(4, "big")
        return bytes(batch)


def record_batches(records: Iterable[bytes], timestamp_ms: int, most_bytes: int) -> Iterator[RecordBatch]:
    """The records in batches of at most `most_bytes` before compression; a larger record gets a batch of its own."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        size += len(record) + _PREFIX_BYTES
        if batch and size > most_bytes:
            yield RecordBatch(batch, timestamp_ms)
            batch, size = [], len(record) + _PREFIX_BYTES
        batch.append(record)
    if batch:
        yield RecordBatch(batch, timestamp_ms)


def encode_event(event: OutboxRow) -> bytes:
    """The event as a record that lacks nothing but its place in the batch."""
    key, value = event["subject_id"].encode(), event["value"]
    size = _NULL if value is None else varint(len(value))
    return b"".join((varint(len(key)), key, size, value or b"", event["headers"]))


def _frame(records: Sequence[bytes]) -> bytes:
    parts: list[bytes] = []
    for offset, record in enumerate(records):
        deltas = _NO_DELTA + varint(offset)
        parts += (varint(len(deltas) + len(record)), deltas, record)
    return b"".join(parts)
