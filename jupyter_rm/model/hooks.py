"""Hooks: shell lines of the user that run at fixed moments of a pilot and of its tasks.

They are shell by declaration, like ``pre_exec`` of a task: what the user wrote is run as it stands, and nothing else of
the user ever becomes part of it. Lines of a site's file come first, then those of the pilot, then those of the task.
Knows names and texts, runs nothing. Read next: :mod:`jupyter_rm.broker.sites`, :mod:`jupyter_rm.agent.environments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .errors import RequestError

# moment -> where it runs and when, in the order in which they come
HOOKS: dict[str, str] = {
    "before_env": "on the login machine, before the agent's environment is looked for",
    "after_env": "on the login machine, when the agent's environment is there",
    "before_agent": "in the job, before the agent starts; tasks inherit the environment that it makes",
    "pre_launch": "before each program task, once, in its directory",
    "pre_exec": "once for all tasks with the same lines; tasks inherit the environment that it makes",
    "post_exec": "after each program that ended by itself",
    "post_launch": "after each program task and all its ranks, once, in its directory",
    "after_agent": "in the job, after the agent has ended",
}
# Those that belong to tasks: they exist on this machine too.
OF_TASKS = ("pre_launch", "pre_exec", "post_exec", "post_launch")
LONGEST = 4096


def check(hooks: Mapping[str, str], here: bool = False) -> None:
    """Refuse hooks that cannot be run.

    Args:
        hooks: lines by moment. here: the pilot is on this machine, where there is no login and no job.

    Raises:
        RequestError: JRM-Q17, naming the hook.
    """
    for name, text in hooks.items():
        if name not in HOOKS:
            raise RequestError(
                f"hooks[{name!r}]: there is no such moment", hint=f"known: {', '.join(HOOKS)}", code="JRM-Q17"
            )
        if here and name not in OF_TASKS:
            raise RequestError(
                f"hooks[{name!r}]: this machine has no login and no job",
                hint=f"use one of {', '.join(OF_TASKS)}, or run it yourself",
                code="JRM-Q17",
            )
        if "\0" in text or len(text) > LONGEST:
            raise RequestError(
                f"hooks[{name!r}]: holds a NUL character, or more than {LONGEST} characters",
                hint="put long scripts into a file there, and run that",
                code="JRM-Q17",
            )


def typed(words: Iterable[str], option: str = "--hook") -> dict[str, list[str]]:
    """Return the hooks in ``MOMENT=LINE`` words of a command line, in their order (RequestError JRM-Q40)."""
    out: dict[str, list[str]] = {}
    for word in words:
        name, sign, line = word.partition("=")
        if not sign or name not in HOOKS:
            raise RequestError(
                f"{option}: {word!r} is not MOMENT=LINE",
                hint=f"{option} 'before_agent=module load gcc'; moments: {', '.join(HOOKS)}",
                code="JRM-Q40",
            )
        out.setdefault(name, []).append(line)
    return out


def joined(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Return the hooks of two sources, the lines of ``first`` before those of ``then``."""
    texts = {name: [hooks[name] for hooks in (first, then) if hooks.get(name)] for name in (*first, *then)}
    return {name: "\n".join(parts) for name, parts in texts.items() if parts}


def lines(hooks: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the lines of a hook, none when it is not there."""
    return tuple(hooks[name].split("\n")) if hooks.get(name) else ()
