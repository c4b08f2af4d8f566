"""Hostile text in every field a person fills: refused by the field's name, or there byte for byte; never run."""

from __future__ import annotations

import random
import shlex
import subprocess
from pathlib import Path

import pytest

from jupyter_rm.batch import BatchSystem, Command, known, load
from jupyter_rm.model.errors import RequestError

FRAGMENTS = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY;",
    "\ntouch CANARY\n",
    "| touch CANARY",
    "&& touch CANARY",
    "' ; touch CANARY; '",
    '" ; touch CANARY; "',
    "$'\\ntouch CANARY'",
    "#SBATCH --wrap=x",
    "\n#PBS -l x\n",
    "--wrap=touch CANARY",
    "-h",
    "--help",
    "-",
    "--",
    "{script}",
    "{{",
    "}}",
    "<",
    ">",
    "<<EOF",
    ">CANARY",
    "${IFS}",
    "$PATH",
    "%s",
    "%j",
    "\\",
    "\\n",
    "'",
    '"',
    "\t",
    "\r",
    "\n",
    "\0",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\ud800",
    "\u200b",
    "é",
    "名",
    "💥",
    "*",
    "?",
    "[a-z]",
    "~",
    "~root",
    "!",
    "!!",
    "#",
    "&",
    "(",
    ")",
    ",",
    ":",
    "=",
    "@",
    "|",
    "a",
    "Z",
    "0",
    " ",
    "..",
    "/../",
    "/etc/passwd",
    "a" * 300,
    "x" * 5000,
    "$(echo)",
    "$((1+1))",
    "queue 1",
    "\nqueue 1\n",
    "$(CLUSTER)",
    "name=value",
    "-v A=B",
]
VALID: dict[str, object] = {
    "token": "jrm0a1b2c3d",
    "script": "/home/alice/b.sh",
    "spec": "/home/alice/spec",
    "walltime": "10m",
}


def strings(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    out = list(FRAGMENTS)
    while len(out) < count:
        parts = dice.choices(FRAGMENTS, k=dice.randint(1, 4))
        lead = dice.choice(["", "", "/", "/tmp/", "a", "-", " "])
        out.append(lead + "".join(parts))
    return out[:count]


def fields(system: BatchSystem) -> list[str]:
    """Every attribute that takes text, the plumbing too."""
    return [name for name, one in system.attributes.items() if one.type in ("string", "path", "list", "choice")]


def check(system: BatchSystem, field: str, text: str) -> Command | None:
    """Render with one hostile field; return the command when it was taken."""
    op = {"ids": "cancel", "user": "find"}.get(field, "submit")
    values = {field: text} if op != "submit" else {**VALID, field: text}
    if field == "user" and not any("{user}" in str(item) for item in system.get("ops.find.argv")):
        return None
    try:
        command = system.render(op, values)
    except RequestError as error:
        assert error.message.startswith(f"{field}: "), f"{field}={text!r} was refused as {error.message!r}"
        return None
    heard = any(text in argument for argument in command.argv)
    attribute = system.attributes[field]
    if not heard:
        # A name that the system cannot carry is left out; nothing else may vanish.
        assert attribute.optional, f"{field}={text!r} vanished from {command.argv}"
        return None
    whole = [argument for argument in command.argv if text in argument]
    assert not any(argument == text and text.startswith("-") for argument in whole), f"{text!r} reads as an option"
    assert tuple(shlex.split(command.line())[-len(command.argv) :]) == command.argv
    assert b"CANARY" not in command.stdin and "CANARY" not in "".join(command.env.values())
    return command


@pytest.mark.parametrize("name", sorted(set(known()) - {"base"}))
def test_five_thousand_strings_through_every_field(name: str, tmp_path: Path) -> None:
    system = load(name)
    taken = [c for text in strings(5000, 1) for field in fields(system) if (c := check(system, field, text))]
    assert taken, "no string was taken at all: the test proves nothing"
    run_for_real(random.Random(2).sample(taken, min(len(taken), 300)), tmp_path)


def run_for_real(commands: list[Command], place: Path) -> None:
    """Let a real shell read the quoted lines, as it is done through SSH, and compare what arrives at the program."""
    script = ["show() { printf '%s\\0' \"$@\"; printf 'END\\0'; }"]
    script += ["show " + shlex.join(command.argv) for command in commands]
    (place / "lines.sh").write_bytes("\n".join(script).encode("utf-8"))
    done = subprocess.run(["/bin/sh", "lines.sh"], cwd=place, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    arrived = [tuple(part.split(b"\0")[:-1]) for part in done.stdout.split(b"END\0")[:-1]]
    assert arrived == [tuple(argument.encode() for argument in command.argv) for command in commands]
    assert sorted(path.name for path in place.iterdir()) == ["lines.sh"], "something ran"


# What stands in a script, a description or a joined command line may not even hold quotes or blanks.
def test_values_for_systems_that_join_words_hold_plain_characters_only() -> None:
    for name, field in (("lsf", "script"), ("lsf", "spec"), ("oar", "spec"), ("pbs", "spec"), ("htcondor", "spec")):
        system = load(name)
        for sign in " '\"$`;&|<>()*?[]{}\\!#~,\n\t":
            with pytest.raises(RequestError, match=f"^{field}: "):
                system.render("submit", {**VALID, field: f"/home/a{sign}b"})
