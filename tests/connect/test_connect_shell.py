"""A shell of ``%%jrm sh`` behind a real login with a password: one login, one question, one shell for all cells."""

from __future__ import annotations

import pytest
from connect_kit import Bed

from jupyter_rm.notebook import asking
from jupyter_rm.notebook.shell import RemoteShell
from jupyter_rm.runtime.connect import Connections, Nobody


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_shell_behind_a_password(bed: Bed, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    password = (bed.client / "password").read_text().strip()
    prompts: list[str] = []

    def typed(prompt: str) -> str:
        prompts.append(prompt)
        return password

    monkeypatch.setattr(asking.getpass, "getpass", typed)
    monkeypatch.setattr("builtins.input", lambda prompt: "yes")
    connections = Connections(bed.settings(transport))
    try:
        shell = RemoteShell("tb-pass", connections)
        desk = asking.Desk()
        desk.during(lambda: shell.start(desk))
        assert len(prompts) == 1
        heard: list[str] = []
        assert shell.run("cd /tmp && A=7; whoami >&2; hostname", heard.append, heard.append) == 0
        heard.clear()
        assert shell.run('echo "$A $PWD"; exit_code() { return 3; }; exit_code', heard.append, heard.append) == 3
        assert "".join(heard) == "7 /tmp\n"
        shell.close()
        # The login stands: another shell asks for nothing.
        again = RemoteShell("tb-pass", connections)
        again.start(Nobody())
        assert again.run("true", print, print) == 0
        again.close()
    finally:
        connections.close()
