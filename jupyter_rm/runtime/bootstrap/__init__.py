"""Bootstrap: what a machine is like, and an environment on it that an agent can run in.

    facts = survey(connection)
    made = ensure(connection, facts, Wanted(), progress)
    connection.start([made.python, made.program, spec_path])

Everything here blocks and may run in any thread. Nothing is needed on the other machine but Python 3.10 and a shell; it
needs no network and no index. Docs: ``docs/bootstrap.md``.

Knows: connections, environments. Does not know: pilots, batch systems. Read next: ``talk.py``, ``ensure.py``.
"""

from jupyter_rm.runtime.bootstrap.ensure import ensure, prepare
from jupyter_rm.runtime.bootstrap.stop import Stoppable, Stopped
from jupyter_rm.runtime.bootstrap.survey import SiteFacts, survey
from jupyter_rm.runtime.bootstrap.talk import Environment, Step, Wanted

__all__ = ["Environment", "SiteFacts", "Step", "Stoppable", "Stopped", "Wanted", "ensure", "prepare", "survey"]
