"""Zorp, an invented batch system that really runs jobs: four boxes of two cores, a queue, accounting.

One program with many names (``zput``, ``zlook`` ...); its state is a directory, named by ZORP. Every call is noted in
``calls``. A file ``broken`` there makes every command fail with its text, a file ``grumpy`` every submission.
"""

import contextlib
import fcntl
import getpass
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["ZORP"])
BOXES = 4
ME = os.environ.get("ZORP_USER") or getpass.getuser()


def jobs():
    found = [json.loads(path.read_text()) for path in HOME.glob("Z*.json")]
    return sorted(found, key=lambda job: int(job["ticket"][1:]))


def save(job):
    path = HOME / f"{job['ticket']}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(job))
    part.rename(path)


def turn():
    """Start whom there is room for; nothing else makes the system move."""
    for job in jobs():
        verdict = HOME / f"{job['ticket']}.verdict"
        if job["mood"] == "busy" and verdict.exists():
            job.update(mood="gone home", verdict=int(verdict.read_text()), left=time.time())
            save(job)
    taken = {box for job in jobs() if job["mood"] == "busy" for box in job["on"]}
    for job in jobs():
        free = [box for box in range(1, BOXES + 1) if box not in taken]
        if job["mood"] != "yawning":
            continue
        if len(free) < job["boxes"]:
            job["because"] = "crowded"
            save(job)
            break
        job.update(mood="busy", on=free[: job["boxes"]], began=time.time(), because="")
        taken |= set(job["on"])
        line = 'cd "$1" && /bin/sh "$2" $3 >>"$4" 2>&1; echo $? >"$5.part"; mv "$5.part" "$5"'
        where = [job["at"], job["run"], job["with"], job["out"], str(HOME / f"{job['ticket']}.verdict")]
        env = {**os.environ, "ZTICKET": job["ticket"], "ZBOXES": ",".join(f"box{n}" for n in job["on"])}
        nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        argv = ["/bin/sh", "-c", line, "job", *where]
        job["pid"] = subprocess.Popen(argv, env=env, start_new_session=True, **nothing).pid
        save(job)


def show(some):
    for job in some:
        print(f"@@ {job['ticket']}\ncalled is {job['called']}\nwhose is {job['whose']}\nmood is {job['mood']}")
        print(f"lane is {job['lane']}\ncame is {int(job['came'])}\nbecause is {job['because'] or '?'}")
        if job["on"]:
            print(f"boxes is {','.join(f'box{n}' for n in job['on'])}\nbegan is {int(job['began'])}")
    if not some:
        print("nobody here")


def put(words):
    if words == ["++version"]:
        print("Zorp 1.0")
        return 0
    job = {
        "lane": "",
        "purse": "mine",
        "called": "",
        "boxes": "1",
        "at": "/",
        "out": "/dev/null",
        "with": "",
        "run": "",
    }
    mood = "yawning"
    while words:
        word = words.pop(0)
        key, found, value = word.removeprefix("++").partition("=")
        if word == "++asleep":
            mood = "asleep"
        else:
            job[key] = value if found else words.pop(0)
    if (HOME / "grumpy").exists():
        print((HOME / "grumpy").read_text(), file=sys.stderr)
        return 9
    if job["lane"] not in ("rainbow", "grey"):
        print(f"there is no lane {job['lane']}", file=sys.stderr)
        return 3
    if job["purse"] != "mine":
        print(f"that is not your purse: {job['purse']}", file=sys.stderr)
        return 4
    number = len(list(HOME.glob("Z*.json"))) + 1
    job.update(
        ticket=f"Z{number}", mood=mood, whose=ME, came=time.time(), on=[], because="", verdict=None, began=0, left=0
    )
    job["boxes"] = int(job["boxes"].partition("x")[0])
    save(job)
    turn()
    print(f"Welcome to Zorp. There are 12 others.\nticket no. Z{number} (thank you)", file=sys.stderr)
    return 0


def look(words):
    turn()
    key, _, value = words[0].removeprefix("++").partition("=")
    every = jobs()
    here = [job for job in every if job["mood"] not in ("gone home", "thrown out")]
    if key == "only":
        wanted = value.split(",")
        show([job for job in here if job["ticket"] in wanted])
        strangers = [id for id in wanted if id not in {job["ticket"] for job in here}]
        for id in strangers:
            print(f"who is {id}?", file=sys.stderr)
        return 3 if strangers else 0
    show([job for job in here if key == "all" or job["whose"] == value])
    return 0


def each(words, act):
    turn()
    every = {job["ticket"]: job for job in jobs()}
    bad = 0
    for id in words:
        job = every.get(id)
        if job is None or job["mood"] in ("gone home", "thrown out"):
            print(f"who is {id}?", file=sys.stderr)
            bad = 3
        else:
            act(job)
            save(job)
    turn()
    return bad


def stop(job):
    if job["mood"] == "busy":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job["pid"], signal.SIGKILL)
    job.update(mood="thrown out", left=time.time())


def book(words):
    turn()
    gone = [job for job in jobs() if job["ticket"] in words and job["mood"] in ("gone home", "thrown out")]
    rows = [{**job, "times": {"began": job["began"], "left": job["left"]}} for job in gone]
    print("*** Zorp accounting ***\n" + json.dumps({"book": rows}))
    return 0


def when(words):
    turn()
    for place, job in enumerate(job for job in jobs() if job["ticket"] in words and job["mood"] == "yawning"):
        print(job["ticket"], int(time.time()) + 600 * (place + 1))
    return 0


def boxes(words):
    turn()
    ill = {int(path.suffix[1:]) for path in HOME.glob("ill.*")}
    print("Boxes\nBOX   FEELS  CORES  REMARKS")
    for n in range(1, BOXES + 1):
        print(f"box{n}  {'ill' if n in ill else 'fine'}  2  {'has a cold' if n in ill else 'all is well'}")
    return 0


def lanes(words):
    print('<lanes><lane id="rainbow"><limit>2-00:00:00</limit><boxes most="4"/></lane><lane id="grey"/></lanes>')
    return 0


VERBS = {
    "zput": put, "zlook": look, "zbook": book, "zwhen": when, "zboxes": boxes, "zlanes": lanes,
    "zstop": lambda words: each(words, stop),
    "zhush": lambda words: each(words, lambda job: job.update(mood="asleep")),
    "zwake": lambda words: each(words, lambda job: job.update(mood="yawning")),
}  # fmt: skip


def main():
    name, words = sys.argv[1], sys.argv[2:]
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(HOME / "calls", "a") as calls:
            calls.write(json.dumps([name, *words]) + "\n")
        if (HOME / "broken").exists():
            print((HOME / "broken").read_text(), file=sys.stderr)
            return 1
        return VERBS[name](words)


if __name__ == "__main__":
    sys.exit(main())
