"""The shell of ``%%jrm sh --keep`` behind a real login: the line is cut in the middle of a cell; nothing is lost."""

from __future__ import annotations

import threading

import pytest
from connect_kit import Bed, eventually

from jupyter_rm.model.errors import LinkError
from jupyter_rm.notebook.kept import KeptShell
from jupyter_rm.runtime.connect import Connections, Nobody


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_a_cell_goes_on_when_the_line_is_cut(bed: Bed, transport: str) -> None:
    connections = Connections(bed.settings(transport))
    heard: list[str] = []
    try:
        shell = KeptShell("tb-login", connections)
        shell.start(Nobody())
        assert shell.run("cd /tmp; X=5; rm -f jrm-kept-go", heard.append, heard.append) == 0
        text = "echo before; while [ ! -e jrm-kept-go ]; do sleep 0.1; done; rm jrm-kept-go; echo after $X"

        def cell() -> None:
            with pytest.raises(LinkError, match="goes on there"):
                shell.run(text, heard.append, heard.append)

        thread = threading.Thread(target=cell)
        thread.start()
        eventually(lambda: "before" in "".join(heard), "it prints nothing", 30)
        bed.kill_sessions("login")
        thread.join(30)
        assert not thread.is_alive()
        connections.close()
        connections = Connections(bed.settings(transport))
        again = KeptShell("tb-login", connections)
        again.start(Nobody())
        assert again.state()[2] == 1
        connections.get("tb-login", Nobody()).run(["touch", "/tmp/jrm-kept-go"])
        heard.clear()
        assert again.last(heard.append, heard.append) == 0
        assert "".join(heard) == "before\nafter 5\n"
        heard.clear()
        assert again.run("pwd", heard.append, heard.append) == 0
        assert "".join(heard) == "/tmp\n"
        again.end()
        assert again.state()[0] == 0
    finally:
        connections.close()
