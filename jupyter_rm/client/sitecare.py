"""Site files from elsewhere, and what of ours lies on another machine: install one, look at and remove the other.

A file from a URL is taken only with the SHA-256 that its publisher states, and only when nothing is wrong with it.
Removing leaves results alone unless told otherwise, and everything while a pilot runs there. Read next:
:mod:`.sites`.
"""

from __future__ import annotations

import hashlib
import html
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..broker.sites import parse
from ..model.errors import RequestError, SiteError
from ..model.units import human_mib
from ..runtime.connect import Asker, ConnectSettings, connect
from . import here
from .sites import _NAME, _RESERVED, Person, _settings, put

MOST_BYTES = 1 << 20
WAIT_S = 30.0


def _fetched(source: str) -> bytes:
    """Return the bytes of a URL or a file."""
    try:
        if source.startswith(("https://", "http://")):
            with urllib.request.urlopen(source, timeout=WAIT_S) as answer:  # noqa: S310 (of these two schemes)
                body: bytes = answer.read(MOST_BYTES + 1)
        else:
            with here.path(source, "source").open("rb") as file:
                body = file.read(MOST_BYTES + 1)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise RequestError(f"{source}: {error}", hint="check the address", code="JRM-Q36") from None
    if len(body) > MOST_BYTES:
        raise RequestError(f"{source}: larger than {MOST_BYTES >> 10} KiB", hint="is it a site file?", code="JRM-Q36")
    return body


def install(source: str, sha256: str = "", name: str = "", force: bool = False) -> Path:
    """Put a site file from a URL or a path among one's own; nothing is written when anything is wrong with it.

    Args:
        source: ``https://...`` or a path; sha256: of its bytes, in hex, needed for a URL; name: of the site here
            (default: the file's); force: replace a file of that name.

    Raises:
        RequestError: JRM-Q36, it cannot be had, its hash is not the one given; JRM-Q26, the name or the file.
    """
    remote, sha256 = source.startswith(("https://", "http://")), sha256.strip().lower()
    if remote and not sha256:
        raise RequestError(
            f"{source}: who vouches for it?", hint="give what its publisher states: --sha256 HEX", code="JRM-Q36"
        )
    if sha256 and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise RequestError(f"sha256: {sha256!a} is none", hint="it has 64 digits, 0 to 9 and a to f", code="JRM-Q36")
    body = _fetched(source)
    found = hashlib.sha256(body).hexdigest()
    if sha256 and found != sha256:
        raise RequestError(
            f"{source}: its SHA-256 is {found}, not {sha256}",
            hint="it was changed or damaged; nothing was written",
            code="JRM-Q36",
        )
    stem = Path(urllib.parse.urlsplit(source).path if remote else source).name.removesuffix(".toml")
    name = name or stem
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise RequestError(
            f"name: {name!r} cannot be the name of a site", hint="give another with --name", code="JRM-Q26"
        )
    return put(name, body, force, source)


# ------------------------------------------------------------ what lies there

# Each line: what, KiB. A pilot whose start program touched its mark in the last two minutes and wrote no end runs.
_LOOK = """
cd "$HOME/.jupyter_rm" 2>/dev/null || exit 0
for name in * .[!.]*; do
    [ -e "$name" ] && du -sk -- "$name" | awk -v n="$name" '{print "part", $1, n}'
done
find pilots -name alive -mmin -2 2>/dev/null | while IFS= read -r mark; do
    [ -e "${mark%alive}ended.json" ] || echo "runs 0 ${mark%/alive}"
done
"""
_REMOVE = """
cd "$HOME/.jupyter_rm" 2>/dev/null || exit 0
for program in shell/keeper-*.py; do [ -e "$program" ] && python3 "$program" close </dev/null; done
for name in * .[!.]*; do
    [ "$name" = sandboxes ] && [ "$1" != all ] && continue
    [ -e "$name" ] && chmod -R u+w -- "$name" && rm -rf -- "$name"
done
cd "$HOME" && rmdir .jupyter_rm 2>/dev/null || true
"""


@dataclass
class Remains:
    """What of ours lies in an account: MiB by name, and the pilots that run; shows itself.

    Attributes:
        host: the machine; parts: MiB by name in ``~/.jupyter_rm``; running: places of pilots; removed: it is gone now.
    """

    host: str
    parts: dict[str, float]
    running: list[str]
    removed: bool = False

    def __repr__(self) -> str:
        if not self.parts:
            return f"{self.host}: nothing of jupyter_rm is there"
        lines = [f"{self.host}: ~/.jupyter_rm" + (" was removed" if self.removed else "")]
        lines += [f"  {name:<12} {human_mib(max(1, round(size)))}" for name, size in sorted(self.parts.items())]
        lines += [f"  a pilot runs: {place}" for place in self.running]
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<pre>{html.escape(repr(self))}</pre>"}


def clean(
    site: str,
    yes: bool = False,
    sandboxes: bool = False,
    asker: Asker | None = None,
    settings: ConnectSettings | None = None,
) -> Remains:
    """Say what of ours lies at a site, and with ``yes`` remove it; ``sandboxes``: what tasks left behind, too.

    Raises:
        RequestError: JRM-Q37, a pilot runs there. LinkError: the login failed. SiteError: it cannot be removed.
    """
    with connect(parse(site).target, asker or Person(), settings or _settings()) as connection:
        found = _looked(connection.name, connection.run(["sh", "-c", _LOOK], timeout=600).text)
        if not yes or not found.parts:
            return found
        if found.running:
            raise RequestError(
                f"{connection.name}: {len(found.running)} of your pilots run there ({found.running[0]})",
                hint="cancel them first, then wait two minutes",
                code="JRM-Q37",
            )
        done = connection.run(["sh", "-c", _REMOVE, "jrm-clean", "all" if sandboxes else ""], timeout=600)
        left = _looked(connection.name, connection.run(["sh", "-c", _LOOK], timeout=600).text).parts
        gone = {name: size for name, size in found.parts.items() if name not in left}
        if set(left) - {"sandboxes"} or (sandboxes and left):
            raise SiteError(
                f"{connection.name}: {', '.join(sorted(left))} could not be removed: {done.complaint}",
                hint="look there by hand: ~/.jupyter_rm",
                code="JRM-S37",
            )
        return Remains(connection.name, gone, [], True)


def _looked(host: str, text: str) -> Remains:
    found = Remains(host, {}, [])
    for line in text.splitlines():
        what, _, rest = line.partition(" ")
        size, _, name = rest.partition(" ")
        if what == "part":
            found.parts[name] = int(size) / 1024
        elif what == "runs":
            found.running.append(name)
    return found
