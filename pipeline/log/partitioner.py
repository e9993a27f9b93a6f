"""The partition of a key, as Kafka's default partitioner chooses it, for whole columns of keys.

partitions_of(keys, n)[i] = (murmur2(keys[i]) & 0x7fffffff) % n        so that a key travels where every other producer sends it
"""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import text_buffers

SEED, MIX, SHIFT = 0x9747B28C, np.uint32(0x5BD1E995), np.uint32(24)
Numbers = np.ndarray[Any, np.dtype[np.int64]]


def partitions_of(keys: pa.Array, partitions: int) -> Numbers:
    """int64: the partition of each key (binary, none of them null) of a topic with so many partitions."""
    distinct = keys.dictionary_encode()
    positive: Any = murmur2(distinct.dictionary).astype(np.int64) & 0x7FFFFFFF
    chosen: Numbers = (positive % partitions)[np.asarray(distinct.indices.to_numpy(zero_copy_only=False), np.int64)]
    return chosen


def murmur2(keys: pa.Array) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """uint32: the hash of each key, as Kafka's clients have it (Utils.murmur2); a word of all keys at a time."""
    offsets, data = text_buffers(keys)
    begin = np.asarray(offsets, np.int64)[:-1]
    length: Any = np.diff(np.asarray(offsets, np.int64))
    data = np.concatenate((np.asarray(data, np.uint8), np.zeros(4, np.uint8)))
    hashes: np.ndarray[Any, np.dtype[np.uint32]] = np.uint32(SEED) ^ length.astype(np.uint32)
    words = length // 4
    for word in range(int(words.max(initial=0))):
        those = np.flatnonzero(words > word)
        mixed = _word(data, begin[those] + 4 * word, 4) * MIX
        mixed = (mixed ^ (mixed >> SHIFT)) * MIX
        hashes[those] = hashes[those] * MIX ^ mixed
    for rest in (1, 2, 3):
        those = np.flatnonzero(length % 4 == rest)
        hashes[those] = (hashes[those] ^ _word(data, begin[those] + 4 * words[those], rest)) * MIX
    hashes = (hashes ^ (hashes >> np.uint32(13))) * MIX
    return hashes ^ (hashes >> np.uint32(15))


def _word(data: Any, at: Any, count: int) -> Any:
    """Little-endian: `count` bytes from each place."""
    found = np.zeros(len(at), np.uint32)
    for byte in range(count):
        found |= data[at + byte].astype(np.uint32) << np.uint32(8 * byte)
    return found


__all__ = ["murmur2", "partitions_of"]
