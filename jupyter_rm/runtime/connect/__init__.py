"""Connections to other machines: commands, files and forwards through one login, whatever carries it.

    with connect("ssh://me@login", asker) as login:
        login.run(["squeue", "--me"]).text

Three transports stand behind one class: this machine, paramiko (any number of hops in one TCP connection) and the
system's OpenSSH. Everything here blocks; an event loop calls it in a worker thread. Importing this package is cheap:
paramiko is loaded with the first SSH connection.

Knows: logins, their channels and their life. Does not know: batch systems, agents, or what is sent. Read next:
``open.py``, ``connection.py``, ``ask.py``.
"""

from jupyter_rm.runtime.connect.ask import Asker, Nobody, Question
from jupyter_rm.runtime.connect.connection import Connection, Forward
from jupyter_rm.runtime.connect.files import FileInfo
from jupyter_rm.runtime.connect.life import Event
from jupyter_rm.runtime.connect.link import Address
from jupyter_rm.runtime.connect.open import Connections, connect
from jupyter_rm.runtime.connect.settings import ConnectSettings, LoginPolicy
from jupyter_rm.runtime.connect.stream import Result, Stream
from jupyter_rm.runtime.connect.target import Route, Target, resolve

__all__ = [
    "Address",
    "Asker",
    "ConnectSettings",
    "Connection",
    "Connections",
    "Event",
    "FileInfo",
    "Forward",
    "LoginPolicy",
    "Nobody",
    "Question",
    "Result",
    "Route",
    "Stream",
    "Target",
    "connect",
    "resolve",
]
