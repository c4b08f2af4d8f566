"""The client library: one Python process's view of sessions that live in the broker.

Reading order: :mod:`.session` (what a user holds), :mod:`.replica` (the copy of the ledger it reads from),
:mod:`.connection` (the thread that talks to the broker), :mod:`.calls` (Python functions as tasks).
"""
