"""Refusals and failures of a batch system in plain words, the original kept beside them.

Knows the entries ``[errors.*]`` of one description and what every shell does (127: no such command). Next:
:mod:`.system`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .records import BatchError

_MISSING = re.compile(r"command not found|: not found$|No such file or directory$|not recognized", re.MULTILINE)


def _brief(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = "; ".join(lines[-3:])
    return joined if len(joined) <= 300 else joined[:297] + "..."


class Failures:
    """The errors of one batch system.

    Args:
        title: what people call the system; rules: the table ``errors`` of its description.
    """

    def __init__(self, title: str, rules: Mapping[str, Mapping[str, Any]]) -> None:
        self._title = title
        self._rules = rules

    def _make(
        self,
        op: str,
        rc: int | None,
        raw: str,
        said: str,
        *,
        code: str,
        hint: str,
        retry: bool = False,
        refused: bool = False,
        words: str = "",
        about: str = "",
    ) -> BatchError:
        error = BatchError(said, code=code, hint=hint, retry=retry)
        error.op, error.rc, error.raw, error.translation, error.refused = op, rc, raw[-4000:], words, refused
        error.about = about
        return error

    def _translated(self, op: str, raw: str, rc: int | None) -> BatchError | None:
        for rule in self._rules.values():
            if rule.get("ops") and op not in rule["ops"]:
                continue
            if match := re.search(rule["match"], raw, re.MULTILINE):
                words = str(rule["say"])
                for name, text in match.groupdict().items():
                    words = words.replace("{" + name + "}", text or "")
                return self._make(
                    op,
                    rc,
                    raw,
                    f"{self._title}: {words} ({op}: {_brief(raw)})",
                    code=rule.get("code", "JRM-S31"),
                    hint=rule.get("hint", "see what it says; ask the site when it is not clear"),
                    retry=rule.get("retry", False),
                    refused=rule.get("refused", not rule.get("retry", False)),
                    words=words,
                    about=rule.get("about", ""),
                )
        return None

    def failed(self, op: str, out: str, err: str, rc: int) -> BatchError:
        """Return the error for a command that ended with ``rc``."""
        raw = "\n".join(part.strip() for part in (err, out) if part.strip())
        if rc in (126, 127):  # the shell's own word: it never ran
            missing = "is not there" if rc == 127 or _MISSING.search(raw) else "cannot be run"
            return self._make(
                op,
                rc,
                raw,
                f"{self._title}: its command {missing} ({op}: {_brief(raw)})",
                code="JRM-S27",
                hint="check the site's name, or load the module that brings the command (hook before the environment)",
                refused=True,
                words=f"the command {missing}",
            )
        known = self._translated(op, raw, rc)
        if known is not None:
            return known
        return self._make(
            op,
            rc,
            raw,
            f"{self._title}: {op} failed with exit code {rc}: {_brief(raw) or 'it said nothing'}",
            code="JRM-S31" if op == "submit" else "JRM-S28",
            hint="look for the job by its token before submitting again"
            if op == "submit"
            else "nothing is concluded from this; it is asked again later",
            retry=op != "submit",
        )

    def garbled(self, op: str, out: str, err: str, rc: int, why: str) -> BatchError:
        """Return the error for output that is not what the description says."""
        raw = "\n".join(part.strip() for part in (err, out) if part.strip())
        known = self._translated(op, err, rc) if err.strip() else None
        if known is not None and not known.refused:
            return known
        return self._make(
            op,
            rc,
            raw,
            f"{self._title}: the answer to {op} cannot be read: {why} (it begins: {_brief(raw)[:120] or 'empty'})",
            code="JRM-S28",
            hint="look for the job by its token before submitting again"
            if op == "submit"
            else "nothing is concluded from this; compare with: jrm site check",
            retry=op != "submit",
        )

    def silent(self, op: str, out: str, err: str) -> BatchError:
        """Return the error for a command that did not come to an end."""
        raw = "\n".join(part.strip() for part in (err, out) if part.strip())
        return self._make(
            op,
            None,
            raw,
            f"{self._title} has not answered: {op} did not come to an end",
            code="JRM-S28",
            hint="look for the job by its token before submitting again"
            if op == "submit"
            else "nothing is concluded from this; it is asked again later",
            retry=op != "submit",
            words="no answer",
        )

    def outside(self, why: str) -> BatchError:
        """Return the error of a program that looks for its job's variables in vain."""
        return self._make("job", None, "", f"{self._title}: {why}", code="JRM-S28", hint="see [job] of the description")
