"""Pushes events over HTTP from several connections; bodies are made before, so that the server is measured, and not they.

    said: {"events": answered as accepted, "refused": ..., "requests": ..., "wall_s": ..., "p50_ms": ..., "p99_ms": ...}

Each connection sends its next request when the one before is answered. HTTP is written and read by hand: any client library costs more than
the server does.
"""

import argparse
import asyncio
import json
import time
from collections import deque

from benchmarks.events import chunks
from benchmarks.measure import BenchmarkError


def bodies(seed: int, events: int, batch: int) -> list[bytes]:
    """Requests' bodies: arrays of `batch` events, one event by itself where that is 1; events [0, events) in their order."""
    found: list[bytes] = []
    left: list[bytes] = []
    for chunk in chunks(seed, events, broken=0.0):
        left += chunk.values.to_pylist()
        while len(left) >= batch:
            now, left = left[:batch], left[batch:]
            found.append(now[0] if batch == 1 else b"[" + b",".join(now) + b"]")
    return [*found, b"[" + b",".join(left) + b"]"] if left else found


async def _connection(
    host: str, port: int, path: str, waiting: deque[bytes], told: list[tuple[float, int, int]]
) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    while waiting:
        body = waiting.popleft()
        began = time.monotonic()
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        said = await reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in said.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        answer = json.loads(await reader.readexactly(size))
        if not said.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"{path}: {said[:40]!r} {answer}")
        told.append((time.monotonic() - began, answer["accepted"], len(answer["refused"])))
    writer.close()


async def push(host: str, port: int, path: str, requests: list[bytes], connections: int) -> dict[str, float]:
    """Send all; what `main` says."""
    waiting, told = deque(requests), list[tuple[float, int, int]]()
    began = time.monotonic()
    await asyncio.gather(*(_connection(host, port, path, waiting, told) for _ in range(connections)))
    wall_s = time.monotonic() - began
    times = sorted(one for one, _, _ in told)
    return {
        "events": sum(accepted for _, accepted, _ in told),
        "refused": sum(lost for _, _, lost in told),
        "requests": len(told),
        "wall_s": wall_s,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[len(times) * 99 // 100] * 1000,
    }


def main() -> None:
    """Push, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    given = parser.parse_args()
    made = bodies(given.seed, given.events, given.batch)
    import uvloop

    print(json.dumps(uvloop.run(push("127.0.0.1", given.port, given.path, made, given.connections))), flush=True)


if __name__ == "__main__":
    main()
