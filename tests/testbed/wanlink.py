#!/usr/bin/python3
"""wanlink.py: a bad network between two network namespaces, in user space.

The kernel here has no netem, so this joins two TUN devices and delays, drops,
throttles or holds the packets in between.  Standard library only; needs root.

  wanlink.py run --a NS --b NS [--net 10.80.0] [--ctl SOCKET] [key=value ...]
  wanlink.py set --ctl SOCKET key=value ...       e.g. delay=40 jitter=5 loss=1
  wanlink.py get --ctl SOCKET

NS is a name under /run/netns, or "-" for the present namespace.  End A gets
NET.1, end B gets NET.2 (/30).  Keys, applied to each direction:
  delay=ms  jitter=ms  loss=percent  rate=kbit/s (0: unlimited)  limit=packets queued
  state=up | blackhole (packets vanish, nobody is told) | hold (kept, delivered on up)
"""

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def enter(ns_fd):
    if LIBC.setns(ns_fd, 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")


def tun(ns, home, name, addr, mtu):
    if ns != "-":
        fd = os.open("/run/netns/" + ns, os.O_RDONLY)
        enter(fd)
        os.close(fd)
    dev = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(dev, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    for cmd in (
        ["addr", "add", addr + "/30", "dev", name],
        ["link", "set", name, "mtu", str(mtu), "txqueuelen", "2000", "up"],
    ):
        subprocess.run(["ip", *cmd], check=True)
    enter(home)
    return dev


def apply(cfg, words):
    for word in words:
        key, value = word.split("=", 1)
        if key not in cfg:
            raise ValueError("unknown key " + key)
        if key == "state":
            if value not in ("up", "blackhole", "hold"):
                raise ValueError(value)
            cfg[key] = value
        else:
            cfg[key] = float(value)


def run(args):
    cfg = {"delay": 0.0, "jitter": 0.0, "loss": 0.0, "rate": 0.0, "limit": 5000.0, "state": "up"}
    apply(cfg, args.words)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    fds = [
        tun(args.a, home, args.name + "a", args.net + ".1", args.mtu),
        tun(args.b, home, args.name + "b", args.net + ".2", args.mtu),
    ]
    if os.path.exists(args.ctl):
        os.unlink(args.ctl)
    ctl = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    ctl.bind(args.ctl)
    ctl.listen(4)
    ep = select.epoll()
    for fd in (*fds, ctl.fileno()):
        ep.register(fd, select.EPOLLIN)
    heap, seq, last, free = [], 0, [0.0, 0.0], [0.0, 0.0]
    stat = {"sent": 0, "lost": 0, "overflow": 0}
    while True:
        now = time.monotonic()
        while heap and heap[0][0] <= now and cfg["state"] != "hold":
            _, _, side, pkt = heapq.heappop(heap)
            try:
                os.write(fds[side], pkt)
                stat["sent"] += 1
            except OSError:
                stat["lost"] += 1
        wait = max(0.0, heap[0][0] - time.monotonic()) if heap and cfg["state"] != "hold" else 5.0
        for fd, _ in ep.poll(wait):
            if fd == ctl.fileno():
                conn, _ = ctl.accept()
                with conn:
                    conn.settimeout(1)
                    try:
                        apply(cfg, conn.recv(4096).decode().split())
                        conn.sendall(json.dumps({**cfg, **stat, "queued": len(heap)}).encode())
                    except (OSError, ValueError) as err:
                        conn.sendall(json.dumps({"error": str(err)}).encode())
                continue
            side = fds.index(fd)
            for _ in range(64):
                try:
                    pkt = os.read(fd, 65536)
                except BlockingIOError:
                    break
                if cfg["state"] == "blackhole" or (cfg["loss"] and random.random() * 100 < cfg["loss"]):
                    stat["lost"] += 1
                    continue
                if len(heap) >= cfg["limit"]:
                    stat["overflow"] += 1
                    continue
                at = now = time.monotonic()
                if cfg["rate"]:
                    at = free[side] = max(now, free[side]) + len(pkt) * 8 / (cfg["rate"] * 1000)
                at += max(0.0, random.gauss(cfg["delay"], cfg["jitter"]) if cfg["jitter"] else cfg["delay"]) / 1000
                at = last[side] = max(at, last[side])  # keep order
                seq += 1
                heapq.heappush(heap, (at, seq, 1 - side, pkt))


def ask(args):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(args.ctl)
        sock.sendall((" ".join(args.words) or " ").encode())
        answer = sock.recv(65536).decode()
    print(answer)
    return 1 if "error" in json.loads(answer) else 0


if __name__ == "__main__":
    par = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    par.add_argument("what", choices=["run", "set", "get"])
    par.add_argument("words", nargs="*")
    par.add_argument("--a", default="-")
    par.add_argument("--b", default="jrm-tb")
    par.add_argument("--net", default="10.80.0")
    par.add_argument("--name", default="jrmwan")
    par.add_argument("--mtu", type=int, default=1500)
    par.add_argument("--ctl", default="/var/tmp/jrm-tb/wan.sock")
    opts = par.parse_intermixed_args()
    sys.exit(run(opts) if opts.what == "run" else ask(opts))
