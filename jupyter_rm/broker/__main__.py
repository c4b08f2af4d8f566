"""``python -m jupyter_rm.broker``: start the broker of this user; started by the first client that needs it.

``--ready-fd N``: a line is written there when it accepts clients, ``ok`` (and what became of a damaged journal) or
``{"error": ...}``. A second broker of the same profile says ``ok`` and ends: the first one serves.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.errors import JrmError


# How a journal may be found that a person must hear of.
DAMAGED = ("salvaged", "rows-missing")


def site_error(error: OSError) -> JrmError:
    """Turn what the system refused a starting broker into an error that a person can act on."""
    from ..model.errors import SiteError

    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return SiteError(
        f"{error.filename or 'the home of the broker'}: {error.strerror or error}",
        code="JRM-D09" if full else "JRM-D16",
        hint="free some space there; running work goes on" if full else "check the filesystem",
        retry=True,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the broker; returns the exit code."""
    os.umask(0o077)  # before any file or socket can be made
    parser = argparse.ArgumentParser(prog="python -m jupyter_rm.broker")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--ready-fd", type=int, default=-1)
    parser.add_argument("--idle", type=float, default=3600.0, help="seconds without anything to do before it ends")
    options = parser.parse_args(argv)

    from ..model.errors import ErrorForm, JrmError
    from ..runtime.home import Home

    def ready(text: str) -> None:
        if options.ready_fd >= 0:
            os.write(options.ready_fd, text.encode() + b"\n")
            os.close(options.ready_fd)
            options.ready_fd = -1

    try:
        home = Home.locate(options.profile)
        try:
            lock = home.lock()
        except JrmError as error:
            if error.code == "JRM-R08":
                if options.ready_fd < 0:  # a person started it
                    sys.stderr.write(f"{error}\n")
                ready("ok")
                return 0
            raise
        with lock:
            from ..runtime import logs
            from ..runtime.journal import Journal

            logs.setup("jupyter_rm", home.broker_log)
            lock.tell(0.0)
            journal = Journal.open(home.journal, network_ok=home.network_ok)
            logging.getLogger("jupyter_rm.broker").log(
                logging.ERROR if journal.report.state in DAMAGED else logging.INFO, "%s", journal.report.text
            )
            if journal.report.meta_lost:
                # The count of lives is gone. No number may be used again, or words of an old life would count.
                journal.meta_set(
                    "incarnation", b"%d" % max(int(journal.meta_get("incarnation") or b"0"), int(time.time()))
                )
            from .service import Broker

            broker = Broker(home, journal, idle=options.idle)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            broker.drive.on_signal(signal.SIGTERM, lambda: broker.stop("SIGTERM"))
            broker.recover(lock.tell)
            lock.tell()
            ready("ok " + journal.report.text.replace("\n", " ") if journal.report.state in DAMAGED else "ok")
            broker.run()
    except (JrmError, OSError) as trouble:
        told = trouble if isinstance(trouble, JrmError) else site_error(trouble)
        form = ErrorForm.of(told)
        ready(json.dumps({"error": [form.kind, form.message, form.code, form.hint, form.retry]}))
        sys.stderr.write(f"{told}\n")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # All that counts is in the journal. A thread that waits for a machine far away must not keep us from ending.
    os._exit(code)
