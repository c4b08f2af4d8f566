"""A line with a long way: passes TCP connections on and delivers every byte so much later, in order.

    python benchmarks/_delay.py PORT SECONDS     prints the port it listens on; ends with its standard input

``SECONDS`` is added to each direction, so the round trip grows by twice as much; what is under way is not limited.
"""

from __future__ import annotations

import asyncio
import sys


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Copy one direction until it ends."""
    clock = asyncio.get_running_loop().time
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - clock()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    task = asyncio.create_task(deliver())
    data = b"begin"
    while data:
        try:
            data = await reader.read(1 << 16)
        except OSError:
            data = b""
        line.put_nowait((clock() + delay, data))
    await task


async def serve(port: int, delay: float) -> None:
    """Listen until the standard input ends."""

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, far_writer, delay), carry(far_reader, writer, delay), return_exceptions=True)

    server = await asyncio.start_server(passed_on, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
