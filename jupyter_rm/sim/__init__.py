"""The simulation: a whole world of broker, agents and clients in one process and in virtual time.

``python -m jupyter_rm.sim --seeds 0-99`` runs a hundred histories full of faults and checks every promise in each;
``--seed N --trace`` shows one. The same seed is the same history, frame by frame. Read next:
:mod:`jupyter_rm.sim.world`.
"""
