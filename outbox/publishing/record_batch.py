"""Record batches as brokers store them (Kafka's message format 2), made of whole events at once.

aiokafka's builder takes every header of every record apart and compresses at a level that no other client uses: it was
half of what the relay did. Here an event is a join of its key, its value and headers that are laid down already
(outbox/headers.py), and a batch is compressed while the one before it is in flight. `RecordBatch` is what
`AIOKafkaProducer.send_batch` asks of a batch, so sending, sequence numbers and retries stay aiokafka's.

Source: the Kafka protocol guide's "Record Batch" and "Record".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from aiokafka.codec import lz4_encode
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import calc_crc32c

from outbox.headers import varint

_HEADER: Final = DefaultRecordBase.HEADER_STRUCT
_HEADER_BYTES: Final[int] = _HEADER.size
_CRC_OFFSET: Final = DefaultRecordBase.CRC_OFFSET
#: The checksum is about everything behind it.
_CRC_END: Final = DefaultRecordBase.ATTRIBUTES_OFFSET
_ATTRIBUTES: Final = DefaultRecordBase.CODEC_LZ4 | DefaultRecordBase.TRANSACTIONAL_MASK
_MAGIC: Final = 2

#: LZ4's fast mode, as Kafka's own clients have it by default. aiokafka's 9 is the slow mode: 4 to 16 times the CPU for
#: 1 % fewer bytes (events of 350 bytes, of one character and of random letters).
LZ4_LEVEL: Final = 1
#: Length, attributes and deltas before a record, at most.
_PREFIX_BYTES: Final = 12
#: A value that is not there: the length -1. The event is a tombstone.
_NULL: Final = b"\x01"


class RecordBatch:
    """A finished batch of a transactional producer, for `send_batch`; its methods are those that aiokafka calls."""

    def __init__(self, records: Sequence[bytes], timestamp_ms: int) -> None:
        """Of `encode_event`'s records, in their order; all of them are as old."""
        self._count = len(records)
        self._timestamp_ms = timestamp_ms
        self._records = lz4_encode(_framed(records), level=LZ4_LEVEL)
        self._producer = (-1, -1, -1)

    def record_count(self) -> int:
        """How many records it holds."""
        return self._count

    def size(self) -> int:
        """Its bytes as it is sent."""
        return _HEADER_BYTES + len(self._records)

    def closed(self) -> bool:
        """Nothing is added any more."""
        return True

    def close(self) -> None:
        """It is closed already."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        """The batch as it is sent; the broker fills in base offset and leader epoch."""
        size, last, then = self.size() - DefaultRecordBase.AFTER_LEN_OFFSET, self._count - 1, self._timestamp_ms
        header = bytearray(_HEADER_BYTES)
        _HEADER.pack_into(
            header, 0, 0, size, -1, _MAGIC, 0, _ATTRIBUTES, last, then, then, *self._producer, self._count
        )
        batch = header + self._records
        batch[_CRC_OFFSET:_CRC_END] = calc_crc32c(memoryview(batch)[_CRC_END:]).to_bytes(4, "big")
        return bytes(batch)


def record_batches(records: Iterable[bytes], timestamp_ms: int, most_bytes: int) -> Iterator[RecordBatch]:
    """The records in batches of at most so many bytes before compression; a larger record gets one of its own."""
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


def encode_event(event: Any) -> bytes:
    """Key, value and headers of an event, a row of the work list: a record but for its place in the batch."""
    key, value = event["user_id"].encode(), event["value"]
    size = _NULL if value is None else varint(len(value))
    return b"".join((varint(len(key)), key, size, value or b"", event["headers"]))


@lru_cache(maxsize=16_384)
def _deltas(offset: int) -> bytes:
    """No attributes, no later than the batch, and the place in it."""
    return b"\0\0" + varint(offset)


def _framed(records: Sequence[bytes]) -> bytes:
    parts: list[bytes] = []
    for offset, record in enumerate(records):
        deltas = _deltas(offset)
        parts += (varint(len(deltas) + len(record)), deltas, record)
    return b"".join(parts)
