"""Node lists: from each batch system's own writing to plain host names in order.

Knows the forms in ``FORMS``; does not know which job sees which (a description says that). Lists are cut off with an
error at ``MOST`` hosts, so that a broken range cannot eat the memory. Read next: :mod:`.system`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from .records import BatchError

MOST = 200_000
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_LAST_NUMBER = re.compile(r"(.*?)([0-9]{1,12})([^0-9]*)")


def _bad(text: str, why: str) -> BatchError:
    shown = text if len(text) <= 120 else text[:117] + "..."
    error = BatchError(f"node list {shown!r}: {why}", code="JRM-S28", hint="see the node list format of this site")
    error.raw = text[:4000]
    return error


def _split(text: str) -> list[str]:
    """Split at commas and blanks outside brackets."""
    parts, depth, word = [], 0, ""
    for sign in text:
        depth += (sign == "[") - (sign == "]")
        if depth < 0 or depth > 1:
            raise _bad(text, "brackets do not match")
        if depth == 0 and (sign == "," or sign.isspace()):
            parts.append(word)
            word = ""
        else:
            word += sign
    if depth:
        raise _bad(text, "brackets do not match")
    return [part for part in [*parts, word] if part]


def _range(text: str, whole: str) -> list[str]:
    out: list[str] = []
    for piece in text.split(","):
        match = re.fullmatch(r"([0-9]{1,12})(?:-([0-9]{1,12}))?(?::([0-9]{1,6}))?", piece.strip(), re.ASCII)
        if not match:
            raise _bad(whole, f"{piece!r} is not a range")
        low, high = match[1], match[2] or match[1]
        step = int(match[3] or 1) or 1
        if int(high) < int(low):
            raise _bad(whole, f"{piece!r} runs backwards")
        if (int(high) - int(low)) // step + len(out) >= MOST:
            raise _bad(whole, f"more than {MOST} hosts")
        # Leading zeros are part of the name: n01 is not n1.
        out += [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1, step)]
    return out


def expand(text: str) -> tuple[str, ...]:
    """Return the hosts of ``"n[01-04,7],m5"`` (Slurm, Flux); several brackets in one name multiply."""
    hosts: list[str] = []
    for part in _split(text):
        pieces = re.split(r"\[([^\[\]]*)\]", part)
        choices = [[piece] if number % 2 == 0 else _range(piece, text) for number, piece in enumerate(pieces)]
        size = 1
        for choice in choices:
            size *= len(choice)
        if size + len(hosts) > MOST:
            raise _bad(text, f"more than {MOST} hosts")
        hosts += ["".join(combination) for combination in itertools.product(*choices)]
    return tuple(_checked(hosts, text))


def fold(hosts: Iterable[str]) -> str:
    """Return hosts in short, such that :func:`expand` gives the same ones: ``n[01-04],m5``."""
    runs: dict[tuple[str, int, str], list[int]] = {}
    plain: list[str] = []
    for host in sorted(set(hosts)):
        match = _LAST_NUMBER.fullmatch(host)
        if match:
            runs.setdefault((match[1], len(match[2]) if match[2][0] == "0" else 0, match[3]), []).append(int(match[2]))
        else:
            plain.append(host)
    out = []
    for (before, zeros, after), numbers in runs.items():
        pieces: list[list[int]] = []
        for number in sorted(numbers):
            # A run that outgrows its leading zeros is another run: 09 is followed by 10, 9 is not by 010.
            if pieces and number == pieces[-1][1] + 1 and (not zeros or len(str(number)) <= zeros):
                pieces[-1][1] = number
            else:
                pieces.append([number, number])
        written = [str(low).zfill(zeros) + (f"-{str(high).zfill(zeros)}" if high > low else "") for low, high in pieces]
        alone = len(written) == 1 and "-" not in written[0]
        out.append(f"{before}{written[0]}{after}" if alone else f"{before}[{','.join(written)}]{after}")
    return ",".join([*out, *plain])


def _checked(hosts: list[str], text: str) -> list[str]:
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise _bad(text, f"{host!r} is not a host name")
    return hosts


def _counted(pairs: list[tuple[str, int]], text: str) -> tuple[tuple[str, int], ...]:
    """Join equal hosts, keeping the order of their first mention."""
    slots: dict[str, int] = {}
    for host, count in pairs:
        slots[host] = slots.get(host, 0) + count
    _checked(list(slots), text)
    return tuple(slots.items())


def _hostlist(text: str) -> tuple[tuple[str, int], ...]:
    return _counted([(host, 0) for host in expand(text)], text)


def _exec_host(text: str) -> tuple[tuple[str, int], ...]:
    """``n1/0*4+n2/1*4`` (PBS Pro) and ``n1/0-3+n2/5`` or ``n1/3+n1/2`` (Torque)."""
    pairs = []
    for part in text.split("+"):
        match = re.fullmatch(r"([^/\s]+)(?:/([0-9,-]+))?(?:\*([0-9]{1,9}))?", part.strip(), re.ASCII)
        if not match:
            raise _bad(text, f"{part.strip()!r} is not host/slot*count")
        where = match[2] or ""
        count = int(match[3]) if match[3] else len(_range(where, text)) if re.search("[-,]", where) else 1
        pairs.append((match[1], count))
    return _counted(pairs, text)


def _nodefile(text: str) -> tuple[tuple[str, int], ...]:
    """One host a line, once per slot (PBS, Torque, Cobalt, OAR, LSF's LSB_DJOB_HOSTFILE)."""
    return _counted([(line.strip(), 1) for line in text.splitlines() if line.strip()], text)


def _pe_hostfile(text: str) -> tuple[tuple[str, int], ...]:
    """``host slots queue processors`` a line (Grid Engine)."""
    pairs = []
    for line in text.splitlines():
        if not line.strip():
            continue
        words = line.split()
        if len(words) < 2 or not re.fullmatch(r"[0-9]{1,9}", words[1], re.ASCII):
            raise _bad(text, f"{line!r} is not 'host slots ...'")
        pairs.append((words[0], int(words[1])))
    return _counted(pairs, text)


def _pairs(text: str) -> tuple[tuple[str, int], ...]:
    """``host 4 host2 4`` (LSF's LSB_MCPU_HOSTS)."""
    words = text.split()
    if len(words) % 2 or not all(re.fullmatch(r"[0-9]{1,9}", count, re.ASCII) for count in words[1::2]):
        raise _bad(text, "not 'host slots host slots ...'")
    return _counted([(host, int(count)) for host, count in zip(words[::2], words[1::2], strict=True)], text)


def _counts(text: str) -> tuple[tuple[str, int], ...]:
    """``4*host1:4*host2`` or ``host1:host1:host2`` (LSF's exec_host)."""
    pairs = []
    for part in filter(None, re.split(r"[:\s]", text)):
        match = re.fullmatch(r"(?:([0-9]{1,9})\*)?(.+)", part, re.ASCII)
        pairs.append((match[2], int(match[1] or 1)) if match else (part, 1))
    return _counted(pairs, text)


def _words(text: str) -> tuple[tuple[str, int], ...]:
    """Hosts separated by blanks, commas or ``+``, once per slot."""
    return _counted([(host, 1) for host in re.split(r"[\s,+]+", text) if host], text)


def _slot(text: str) -> tuple[tuple[str, int], ...]:
    """``slot1_2@host`` (HTCondor's RemoteHost), ``queue@host`` (Grid Engine's queue instance)."""
    return _counted([(part.rpartition("@")[2], 0) for part in re.split(r"[\s,]+", text) if part], text)


FORMS = {
    "hostlist": _hostlist,
    "exec_host": _exec_host,
    "nodefile": _nodefile,
    "pe_hostfile": _pe_hostfile,
    "pairs": _pairs,
    "counts": _counts,
    "words": _words,
    "slot": _slot,
}


def of_form(form: str, text: str) -> tuple[tuple[str, int], ...]:
    """Return (host, slots) in order of a node list in one of ``FORMS``; slots 0 when the form does not say.

    Raises:
        SiteError: the text is not of that form, or names more than ``MOST`` hosts.
    """
    if len(text) > 8_000_000:
        raise _bad(text, "too long")
    return FORMS[form](text)


def of_file(form: str, text: str) -> tuple[tuple[str, int], ...]:
    """Return (host, slots) of the text of a node file; an empty one is an error, for a job has at least one node."""
    nodes = of_form(form, text)
    if not nodes:
        raise _bad(text, "it names no host")
    return nodes
