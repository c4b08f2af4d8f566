"""What goes with a bundle besides its orders: the files that its tasks take from this machine.

They are sent to the account's store as for every other task, kept for this pilot by a name of their own in its place
(the store is tidied, a queue may be long), and announced by orders at the end of the parcel. One that is not here is
said before anything is submitted. Read next: :mod:`jupyter_rm.broker.carrier`, :mod:`jupyter_rm.core.bundle`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.columns import Picks
from ..model.describe import Template
from ..model.effects import Bring
from ..model.errors import LinkError, RequestError, SiteError
from ..model.facts import BulkSubmitted
from ..model.messages import Assign, Deliver
from ..model.staging import Directive, Found, from_client
from ..runtime.depot import Depot, Sums
from ..wire import codec
from .carrier import Carrier, Errand

if TYPE_CHECKING:
    from ..runtime.connect import Connection

# Constant text: a hard link for each name of the store, a copy where that cannot be. Names come on stdin, one a line.
_KEEP = """umask 077; mkdir -p -- "$2" && cd -- "$2" || exit 73
while IFS= read -r name; do
    [ -e "$name" ] || ln -- "$1/$name" "$name" 2>/dev/null || cp -p -- "$1/$name" "$name" || exit 74
done
exit 0
"""


class _Loader(Carrier):
    """Sends files at once, on the thread that asks, and keeps the answers."""

    def __init__(self, connection: Connection, scratch: Path, say: Callable[[str], None]) -> None:
        self._connection, self._speak = connection, say
        self._scratch = lambda: scratch
        self._sums = Sums()
        self._tidied = {}
        self.found: dict[str, Found] = {}

    def _say(self, errand: Errand, text: str, done: int = 0, size: int = 0, *, always: bool = False) -> None:
        del errand, always
        self._speak(f"{text} ({100 * done // size} %)" if size else text)

    def _depot(self, errand: Errand) -> Depot:
        del errand
        return Depot(self._connection)

    def _there(self, errand: Errand, found: dict[str, Found]) -> None:
        del errand
        self.found |= found


def _wanted(orders: Sequence[bytes]) -> dict[int, dict[str, Directive]]:
    """Return what the tasks of each bulk take from this machine, by source."""
    templates: dict[int, Template] = {}
    out: dict[int, dict[str, Directive]] = {}
    for body in orders:
        order = codec.orders.decode(body)
        if not isinstance(order, Assign):
            continue
        template = order.template or templates[order.bulk]
        templates[order.bulk] = template
        if any(map(from_client, template.input_staging)):
            errand = _errand(order, template)
            for one in Carrier._directives(errand, Picks.span(0, len(order.picks)).array()):
                known = out.setdefault(order.bulk, {}).get(one.source)
                if known is None or known.optional:
                    out[order.bulk][one.source] = one
    return out


def _errand(order: Assign, template: Template) -> Errand:
    count = len(order.picks)
    form = BulkSubmitted(order.bulk, b"", 0.0, count, template, order.columns)
    return Errand(Bring("", 0, order.bulk, Picks.span(0, count)), "", form, "", lambda: True)


def _here(wanted: dict[int, dict[str, Directive]]) -> dict[str, Found]:
    """Return all sources as they are here.

    Raises:
        RequestError: JRM-Q27, one is not there and not optional.
    """
    here: dict[str, Found] = {}
    for bulk in wanted.values():
        for source, one in bulk.items():
            if source not in here:
                here[source] = Carrier._here(source)
            if not here[source].path and not one.optional:
                raise RequestError(
                    f"input_staging: {here[source].note or source}",
                    hint="put it there, or leave it out",
                    code="JRM-Q27",
                )
    return here


def loaded_here(orders: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the parcel for a pilot on this machine; raises as :func:`loaded`."""
    wanted = _wanted(orders)
    here = _here(wanted)
    more = [Deliver(bulk, {source: here[source] for source in sources}) for bulk, sources in wanted.items()]
    return (*orders, *map(codec.encode, more))


def loaded(
    orders: Sequence[bytes], connection: Connection, place: str, scratch: Path, say: Callable[[str], None]
) -> tuple[bytes, ...]:
    """Send what the tasks of a parcel take from here, and return the parcel with the word that it is there.

    Args:
        place: the pilot's directory there. scratch: for archives on their way. say: told how far it is.

    Raises:
        RequestError: a file is not here; nothing was sent. SiteError, LinkError: it did not arrive.
    """
    wanted = _wanted(orders)
    here = _here(wanted)
    if not here:
        return tuple(orders)
    loader = _Loader(connection, scratch, say)
    first = next(order for body in orders if isinstance(order := codec.orders.decode(body), Assign))
    assert first.template is not None, "a parcel names every template once"
    loader._send(_errand(first, first.template), here)
    kept = _keep(connection, place, loader.found)
    more = [Deliver(bulk, {source: kept[source] for source in sources}) for bulk, sources in wanted.items()]
    return (*orders, *map(codec.encode, more))


def _keep(connection: Connection, place: str, found: dict[str, Found]) -> dict[str, Found]:
    roots = {one.path.rpartition("/")[0] for one in found.values() if one.path}
    goal = f"{place}/cargo"
    for root in roots:
        names = sorted({one.path.rpartition("/")[2] for one in found.values() if one.path.startswith(f"{root}/")})
        stdin = "".join(f"{name}\n" for name in names).encode()
        done = connection.run(["/bin/sh", "-c", _KEEP, "jrm-keep", root, goal], stdin=stdin, timeout=600)
        if done.rc is None:
            raise LinkError(f"{connection.name}: {goal} cannot be filled", code="JRM-T28", retry=True)
        if done.rc:
            raise SiteError(
                f"{connection.name}: {goal} cannot be filled: {done.complaint or done.rc}",
                code="JRM-S32",
                hint="check free space, quota and permissions of your home directory there",
                retry=True,
            )
    return {
        source: Found(f"{goal}/{one.path.rpartition('/')[2]}", one.kind, one.mode, one.note) if one.path else one
        for source, one in found.items()
    }
