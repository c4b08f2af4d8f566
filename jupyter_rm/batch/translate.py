"""From fields to records: what states, reasons and node states of one system mean.

What no table of the description explains is UNKNOWN and noted once, never guessed. Next: :mod:`.system`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .records import JobRecord, JobState, NodeRecord
from .shape import state_word


class Translator:
    """The tables of one description that give meaning to words.

    Args:
        title: what people call the system; tree: its merged description.

    Attributes:
        notes: words that no table explains, a line each, each once.
    """

    def __init__(self, title: str, tree: Mapping[str, Any]) -> None:
        self._title = title
        self._tree = tree
        self.notes: list[str] = []

    def nodes(self, fields: list[dict[str, Any]]) -> list[NodeRecord]:
        """Return one record a node; a node that is listed once per queue is one record with all of them."""
        out: dict[str, NodeRecord] = {}
        table = self._tree.get("node_states", {})
        rows = [
            {**one, "name": name}
            for one in fields
            for name in (one["name"] if isinstance(one["name"], tuple) else (one["name"],))
        ]
        for one in rows:
            raw = str(one.pop("state", ""))
            # Slurm marks states with a sign, others join several: the first that is known counts, worst first.
            words = [raw, *re.split(r"[,+\s]+", raw.rstrip("*$~#!%@^-").lower()), raw.rstrip("*$~#!%@^-")]
            known = [table[word] for word in words if word in table]
            state = "offline" if "offline" in known else known[0] if known else "unknown"
            if not known and raw:
                self.note(f"node state {raw!r} is not in the description; it counts as unknown")
            queues = tuple(one.pop("queues", ()))
            if (old := out.get(one["name"])) is not None:
                queues = (*old.queues, *(queue for queue in queues if queue not in old.queues))
            out[one["name"]] = NodeRecord(state=state, raw_state=raw, queues=queues, **one)
        return list(out.values())

    def note(self, text: str) -> None:
        """Remember a line, once; at most 200 of them."""
        line = f"{self._title}: {text}"
        if line not in self.notes and len(self.notes) < 200:
            self.notes.append(line)

    def state_of(self, raw: str) -> tuple[JobState, str]:
        """Return (state, detail) of a state as the batch system writes it; UNKNOWN, and a note, when nobody knows."""
        table = self._tree.get("states", {})
        if raw in table:
            return state_word(table[raw]) or (JobState.UNKNOWN, "")
        for rule in self._tree.get("state_rules", {}).values():
            if re.search(rule["match"], raw):
                return state_word(rule["is"]) or (JobState.UNKNOWN, "")
        first = re.split(r"[\s,+]", raw.strip(), maxsplit=1)[0]
        if first in table:
            return state_word(table[first]) or (JobState.UNKNOWN, "")
        self.note(f"state {raw[:60]!r} is not in the description; it counts as unknown")
        return JobState.UNKNOWN, ""

    def reason_of(self, raw: str) -> tuple[str, str]:
        """Return (plain words, state word or '') of a reason; the reason itself when nobody has translated it."""
        table = self._tree.get("reasons", {})
        if raw in table:
            return str(table[raw]), ""
        for rule in self._tree.get("reason_rules", {}).values():
            if match := re.search(rule["match"], raw):
                words = str(rule.get("say", raw))
                for name, text in match.groupdict().items():
                    words = words.replace("{" + name + "}", text or "")
                return words, str(rule.get("is", ""))
        return raw, ""

    def job(self, one: dict[str, Any]) -> JobRecord:
        """Return the record of one job from its fields."""
        raw, reason = str(one.pop("state", "")), str(one.get("reason", ""))
        state, detail = self.state_of(raw) if raw else (JobState.UNKNOWN, "")
        words, override = self.reason_of(reason) if reason else ("", "")
        code = one.get("exit")
        if state is JobState.ENDED:
            said = self._tree.get("exits", {}).get("" if code is None else str(code))
            if said or override:
                state, detail = state_word(said or override) or (state, detail)
            elif code is not None or one.get("signal"):
                state = JobState.FAILED if code or one.get("signal") else JobState.DONE
                detail = "signal" if one.get("signal") else detail
        elif state is JobState.FAILED and not detail and one.get("signal"):
            detail = "signal"
        elif override and raw:  # a reason without a state concludes nothing
            state, detail = state_word(override) or (state, detail)
        if not one.get("limit_s"):
            one.pop("limit_s", None)
        if state is not JobState.QUEUED:
            one.pop("estimate", None)
        if not state.final:
            # Before the end these columns hold plans, not facts.
            one.pop("exit", None)
            one.pop("signal", None)
            if state is JobState.QUEUED and "start" in one:
                one.setdefault("estimate", one.pop("start"))
            if "end" in one:
                one.setdefault("ends_by", one.pop("end"))
            if state is JobState.QUEUED:
                one.pop("ends_by", None)
        return JobRecord(state=state, detail=detail, raw_state=raw, reason_text=words, **one)
