"""The files of a session that is closed, removed where its pilots were: sandboxes, their places, its shared directory.

What sessions share (``resource:///``, prepared environments, the cache) stays, and so does a sandbox of the user's own
choice. Constant text runs there; the session's key is its argument. Blocks. Read next:
:mod:`jupyter_rm.client.closing`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.session import SITES
from ..model.errors import RequestError, SiteError
from ..model.ledger import Ledger
from ..runtime.home import Home

if TYPE_CHECKING:
    from ..runtime.connect import Connections

WORD = "clean"
TIMEOUT_S = 1800.0
# Each line: what became of it, KiB, path.
_CLEAN = """
cd -- "$HOME/.jupyter_rm" 2>/dev/null || exit 0
for name in "sandboxes/$1" "pilots/$1" env/"$1".p*; do
    [ -d "$name" ] && [ ! -L "$name" ] || continue
    size=$(du -sk -- "$name" 2>/dev/null | cut -f1)
    chmod -R u+rwX -- "$name" 2>/dev/null
    rm -rf -- "$name" && echo "removed ${size:-0} ~/.jupyter_rm/$name" || echo "left ${size:-0} ~/.jupyter_rm/$name"
done
exit 0
"""


def check(ledger: Ledger, pilot: int) -> None:
    """Refuse to remove what may still be written to.

    Raises:
        RequestError: JRM-Q93, the session is open, or a job of it at that site has not ended.
    """
    site = ledger.pilots[pilot].spec.site
    alive = [f"p.{n}" for n, row in enumerate(ledger.pilots) if row.spec.site == site and not row.state.final]
    if not ledger.closed or alive:
        raise RequestError(
            f"cleanup: {f'{alive[0]} has not ended' if alive else 'the session is open'}",
            hint="close the session first, and wait for the ends of its pilots",
            code="JRM-Q93",
        )


def carry_out(connections: Connections, home: Home, site: str, session: str) -> tuple[str, ...]:
    """Remove the files of a session at a site; return lines ``removed KIB PATH``.

    Args:
        session: its key.

    Raises:
        SiteError: JRM-S44, something could not be removed. LinkError: no login.
    """
    from ..runtime.connect import Nobody
    from .places import broker_id
    from .sites import parse

    if site in SITES:
        return _here(home.sandbox_path / session)
    connection = connections.get(parse(site).target, Nobody())
    argv = ["/bin/sh", "-c", _CLEAN, "jrm-clean", f"{session}.{broker_id(home)}"]
    done = connection.run(argv, timeout=TIMEOUT_S)
    lines = [line for line in done.text.splitlines() if line.startswith(("removed ", "left "))]
    left = [line.split(" ", 2)[2] for line in lines if line.startswith("left ")]
    if left or done.rc:
        why = done.complaint or f"exit code {done.rc}"
        raise SiteError(
            f"{connection.name}: {left[0] if left else '~/.jupyter_rm'} could not be removed: {why}",
            hint="look there by hand, then: jrm site clean",
            code="JRM-S44",
        )
    return tuple(lines)


def _here(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    size = sum(path.lstat().st_blocks for path in folder.rglob("*")) // 2
    try:
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)
    except OSError as error:
        raise SiteError(
            f"{error.filename}: {error.strerror}", hint="look there by hand, then: jrm site clean", code="JRM-S44"
        ) from None
    return (f"removed {size} {folder}",)
