"""A stand-in for a notebook kernel: submits, says so, and follows its session until somebody kills it."""

import os
import sys

import jupyter_rm as jrm


def main() -> None:
    name, starts, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    session = jrm.open(name)
    if not session.pilots():
        session.pilot("local", cores=2)
        line = f'echo "$JRM_TASK_UID $JRM_TASK_ATTEMPT" >> {starts}'
        # One write of a short line with O_APPEND is atomic, so the file counts every start exactly.
        session.submit([jrm.Shell(line)] * count)
        session.submit([jrm.Shell(line, restart="never")] * (count // 10))
    os.write(1, b"submitted\n")
    session.wait()
    os.write(1, b"done\n")


if __name__ == "__main__":
    main()
