"""A small batch system of our own: real jobs on virtual nodes of this machine, for people without a cluster.

Programs (``python -m jupyter_rm.simbatch VERB``), a directory with all state, and a controller that ends with the last
job. It stands below the broker as Slurm would: nothing here knows pilots, and nothing above knows more of it than
``batch/systems/sim.toml`` says. Read next: :mod:`.schedule` (who starts when), :mod:`.control` (who starts it).
"""
