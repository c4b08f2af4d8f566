"""The ground floor: what everything else talks about.

Ids, units, resources, states, facts, messages, effects, the ledger and the errors. Nothing here does I/O or knows a
clock. Read next: :mod:`jupyter_rm.model.states`, then :mod:`jupyter_rm.model.facts` and :mod:`jupyter_rm.model.ledger`.
"""
