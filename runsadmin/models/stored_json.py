"""How the JSON of runs is stored: compressed, and without the text that it shares with other runs.

A stored value begins with a byte that names its format:

- `{`: the JSON itself, as version 0.1.0 stored it. `services.compression` compresses such values.
- 1: compressed with the skeleton as its dictionary.
- 2: the key of a SharedText (8 bytes), then compressed with the skeleton and that text as its dictionary.

A dictionary never contains text of only one run, unless that run is the last one with this SharedText.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from zstandard import (
    DICT_TYPE_RAWCONTENT,
    FRAME_HEADER,
    ZstdCompressionDict,
    ZstdCompressor,
    ZstdDecompressor,
    frame_content_size,
)

from runsadmin.models.shared_text import SharedText, key_of

_SKELETON, _SHARED = b"\x01", b"\x02"
_KEY_LENGTH = 8
_START = 1 + _KEY_LENGTH
# Shorter text is not worth a reference.
MIN_SHARED_LENGTH = 128
# Level 3 is the default. Higher levels save 3% and take up to ten times as long.
_LEVEL = 3
_MAX_DICTIONARIES = 256
# In bytes: how much is decompressed in one call.
_MAX_TOGETHER = 1024 * 1024
# In bytes: the longest header of a frame, which contains the size of its content.
_MAX_HEADER = 18
_MAX_SEEN = 10_000

# The documented fields with their most frequent values. Never change it: stored values refer to it.
SKELETON = (
    '{"id":"run_","object":"thread.run","created_at":17,"thread_id":"thread_","assistant_id":"asst_",'
    '"status":"completed","required_action":null,"last_error":{"code":"rate_limit_exceeded","message":"'
    '"},"expires_at":null,"started_at":17,"cancelled_at":null,"failed_at":null,"completed_at":17,'
    '"incomplete_details":{"reason":"max_completion_tokens"},"model":"gpt-4o-mini","instructions":"",'
    '"tools":[{"type":"code_interpreter"},{"type":"file_search","file_search":{"ranking_options":'
    '{"ranker":"default_2024_08_21","score_threshold":0.0}}},{"type":"function","function":{"name":"","description":"",'
    '"parameters":{"type":"object","properties":{"":{"type":"string","description":""}},"required":[""],'
    '"additionalProperties":false},"strict":true}}],"metadata":{},"status":"failed","last_error":null,'
    '"incomplete_details":null,"usage":null,"usage":{"prompt_tokens":,"completion_tokens":,"total_tokens":,'
    '"prompt_token_details":{"cached_tokens":0}},"temperature":1.0,"top_p":1.0,"max_prompt_tokens":null,'
    '"max_completion_tokens":null,"truncation_strategy":{"type":"auto","last_messages":null},"tool_choice":"auto",'
    '"parallel_tool_calls":true,"response_format":"auto"}'
)

# Compressors and decompressors must not be used by two threads at once.
_lock = threading.Lock()


class Codec:
    """Compresses and decompresses with one dictionary. The 4 bytes that begin every frame are not stored."""

    def __init__(self, shared: str = "") -> None:
        dictionary = ZstdCompressionDict((SKELETON + shared).encode(), dict_type=DICT_TYPE_RAWCONTENT)
        self._compressor = ZstdCompressor(_LEVEL, dict_data=dictionary, write_checksum=False, write_dict_id=False)
        self._decompressor = ZstdDecompressor(dict_data=dictionary)

    def compress(self, text: str) -> bytes:
        with _lock:
            return self._compressor.compress(text.encode()).removeprefix(FRAME_HEADER)

    def decompress(self, compressed: bytes) -> bytes:
        with _lock:
            return self._decompressor.decompress(FRAME_HEADER + compressed)

    def size(self, compressed: bytes) -> int:
        """The number of bytes that it decompresses to."""
        return frame_content_size(FRAME_HEADER + compressed[:_MAX_HEADER])

    def decompress_all(self, compressed: Sequence[bytes]) -> list[bytes]:
        frames: list[bytes | bytearray | memoryview] = [FRAME_HEADER + each for each in compressed]
        with _lock:
            contents = self._decompressor.multi_decompress_to_buffer(frames, threads=0)
        return [contents[position].tobytes() for position in range(len(contents))]


_plain = Codec()
# The keys of texts that this process has packed, oldest first: a text is shared once it recurs. No value is used.
_seen: dict[int, None] = {}


@lru_cache(_MAX_DICTIONARIES)
def _codec(key: bytes) -> Codec:
    """The codec for the SharedText with this key. It can be cached: the key is a hash, so the text never changes."""
    return Codec(SharedText.objects.values_list("text", flat=True).get(pk=int.from_bytes(key, signed=True)))


type Stored = str | bytes | memoryview


def unpack(stored: Stored) -> bytes:
    """The JSON that was stored, in UTF-8."""
    codec, content = _codec_and_content(stored)
    return content if codec is None else codec.decompress(content)


def unpack_each(values: Iterable[Stored]) -> Iterator[bytes]:
    """What `unpack` returns for each of the values.

    Many are decompressed in one call. Each call releases the GIL, so that with one call per value, busy threads would
    spend much of their time switching.
    """
    batch: list[tuple[Codec | None, bytes]] = []
    size = 0
    for codec, content in map(_codec_and_content, values):
        length = len(content) if codec is None else codec.size(content)
        if batch and size + length > _MAX_TOGETHER:
            yield from _unpacked(batch)
            batch, size = [], 0
        batch.append((codec, content))
        size += length
    yield from _unpacked(batch)


def _unpacked(batch: Sequence[tuple[Codec | None, bytes]]) -> list[bytes]:
    unpacked = [content for _, content in batch]
    positions: defaultdict[Codec, list[int]] = defaultdict(list)
    for position, (codec, _) in enumerate(batch):
        if codec is not None:
            positions[codec].append(position)
    for codec, some in positions.items():
        for position, content in zip(some, codec.decompress_all([unpacked[each] for each in some]), strict=True):
            unpacked[position] = content
    return unpacked


def _codec_and_content(stored: Stored) -> tuple[Codec | None, bytes]:
    """The codec of a stored value, and the bytes to decompress. Without a codec, they are the JSON itself."""
    if isinstance(stored, str):  # SQLite returns what version 0.1.0 stored as text.
        return None, stored.encode()
    stored = bytes(stored)
    match stored[0]:
        case 2:
            return _codec(stored[1:_START]), stored[_START:]
        case 1:
            return _plain, stored[1:]
    return None, stored


@dataclass(frozen=True)
class Unpacked:
    """JSON to store, and the parts of it that other runs may have as well, in order of preference."""

    text: str
    shareable: Sequence[str] = ()


class Packed(str):
    """Text, with the bytes that are stored for it."""

    __slots__ = ("stored",)
    stored: bytes


def pack(items: Sequence[Unpacked]) -> list[dict[str, Any]]:
    """The columns `raw` and `shared_text_id` of each item. Call it in the transaction that writes them.

    Creates a SharedText for text that several items have, or that this process has seen before.
    """
    texts = {text for item in items for text in item.shareable if len(text) >= MIN_SHARED_LENGTH}
    keys = {text: key_of(text) for text in texts}  # Hash each text once: most runs of a page share it.
    rows = [{keys[text]: text for text in item.shareable if text in keys} for item in items]
    uses = Counter(key for row in rows for key in row)
    known = _locked(uses)
    new: dict[int, str] = {}
    chosen: list[int | None] = []
    for row in rows:
        shared = next((key for key in row if key in known or uses[key] > 1 or _was_seen(key)), None)
        if shared is not None and shared not in known:
            new[shared] = row[shared]
        chosen.append(shared)
    while new:
        # Sorted, since two processes that insert the same keys in different orders could wait for each other.
        created = [SharedText(key=key, text=text) for key, text in sorted(new.items())]
        SharedText.objects.bulk_create(created, ignore_conflicts=True)
        # Text that another process created may have been purged by a third one. If so, create it again.
        existing = _locked(new)
        new = {key: text for key, text in new.items() if key not in existing}
    return [_packed(item.text, key) for item, key in zip(items, chosen, strict=True)]


def _locked(keys: Collection[int]) -> set[int]:
    """The given keys that exist. On PostgreSQL, no purge deletes them before the end of the transaction."""
    if not keys:
        return set()
    placeholders = ", ".join(["%s"] * len(keys))
    lock = "ORDER BY key FOR KEY SHARE" if connection.vendor == "postgresql" else ""
    sql = f"SELECT key FROM {SharedText._meta.db_table} WHERE key IN ({placeholders}) {lock}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, list(keys))
        return {key for (key,) in cursor.fetchall()}


def _was_seen(key: int) -> bool:
    """Whether this process has had text with this key before. Remembers the key."""
    with _lock:
        if key in _seen:
            return True
        if len(_seen) >= _MAX_SEEN:
            del _seen[next(iter(_seen))]  # The oldest.
        _seen[key] = None
        return False


def _packed(text: str, key: int | None) -> dict[str, Any]:
    if key is None:
        return {"raw": text, "shared_text_id": None}
    packed = Packed(text)
    stored_key = key.to_bytes(_KEY_LENGTH, signed=True)
    packed.stored = _SHARED + stored_key + _codec(stored_key).compress(text)
    return {"raw": packed, "shared_text_id": key}


class StoredJSONField(models.TextField[Any, str]):
    """JSON text, stored as bytes. A plain string is compressed by itself; one from `pack` may share text."""

    def get_internal_type(self) -> str:
        return "StoredJSONField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        # SQLite stores bytes in a column of any type, and version 0.1.0 created this column as text.
        return "bytea" if connection.vendor == "postgresql" else "text"

    def from_db_value(self, value: Any, expression: object, connection: object) -> str | None:
        return None if value is None else unpack(value).decode()

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Packed):
            return value.stored
        return _SKELETON + _plain.compress(value) if isinstance(value, str) else value
