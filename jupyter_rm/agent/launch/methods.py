"""The table of launch methods: one entry each, templates only.

A template is one argument, or a group of arguments that stand or vanish together; it vanishes when a ``{hole}`` has
no value. Holes: ``program`` (its path), ``n`` ranks, ``nodes`` hosts, ``hosts`` "a,b", ``host`` (the only one),
``counts`` "a:2,b:2" (ranks per host, no value for one host), ``ones`` "a:1,b:1", ``per_node`` (no value when uneven),
``uneven`` (no value when even), ``blocks`` (hosts, no value when uneven), ``cores`` and ``gpus`` per rank (no value
without), ``file`` (the host file), ``first`` (position of the first host's first slot in the job's node list), ``pmi``
(how ranks meet, srun only), ``root`` (no value for other users). Three items stand for several arguments: ``{argv}``
the program, ``{exports}`` the method's ``export`` once per variable, ``{line}`` the program as one line for a remote
shell.

Where the options come from: srun(1) 22.05, mpirun(1) of Open MPI 4.1, mpiexec of MPICH 4 (Hydra), prterun(1) 3,
flux-run(1) and flux-exec(1), jsrun (Spectrum LSF), aprun(1), TACC's ibrun, qrsh(1), pbsdsh(1), blaunch(1). The tests
run srun, mpirun, mpiexec and fork for real; of the others they know the command lines. Next: :mod:`.render`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Item = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """One launch method.

    Attributes:
        programs: names of its program on PATH, the first that is there; (): none is needed.
        ranks: starts the ranks of one task; (): it cannot.
        agents: starts one process per host; (): it cannot.
        each: ``agents`` is for one host at a time.
        within: a variable that must be set for the method to work here.
        export: arguments that pass one variable (``{name}``) on to the ranks; (): the environment travels anyway.
        file: form of the host file: ``""`` none, ``ranks`` a host per line and rank, ``erf`` jsrun's resource file.
        env: variables of the launcher itself.
    """

    name: str
    programs: tuple[str, ...] = ()
    ranks: tuple[Item, ...] = ()
    agents: tuple[Item, ...] = ()
    each: bool = False
    within: str = ""
    export: tuple[str, ...] = ()
    file: str = ""
    env: tuple[tuple[str, str], ...] = field(default=())


_ALL = (
    Method("fork", ranks=("{argv}",), agents=("{argv}",), each=True),
    Method(
        "ssh",
        ("ssh",),
        ranks=("{program}", "-x", "-T", "-o", "BatchMode=yes", "{host}", "{line}"),
        agents=(
            *("{program}", "-x", "-T", "-n", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
            *("-o", "ServerAliveInterval=15", "{host}", "{line}"),
        ),
        each=True,
    ),
    Method(
        "srun",
        ("srun",),
        ranks=(
            *("{program}", "--nodes={nodes}", "--ntasks={n}", "--ntasks-per-node={per_node}"),
            *("--distribution={uneven}", "--cpus-per-task={cores}", "--nodelist={blocks}", "--overlap", "--mem=0"),
            *("--cpu-bind=none", "--kill-on-bad-exit=1", "--mpi={pmi}", "{argv}"),
        ),
        agents=(
            *("{program}", "--nodes={nodes}", "--ntasks={nodes}", "--ntasks-per-node=1", "--nodelist={hosts}"),
            *("--overlap", "--mem=0", "--cpu-bind=none", "--no-kill", "--kill-on-bad-exit=0", "--wait=0"),
            *("--input=none", "--mpi=none", "{argv}"),
        ),
        within="SLURM_JOB_ID",
        file="ranks",
        env=(("SLURM_HOSTFILE", "{file}"),),
    ),
    Method(
        "mpirun",
        ("mpirun", "mpirun.openmpi", "orterun"),
        ranks=(
            *("{program}", "-n", "{n}", "--oversubscribe", "--bind-to", "none", "--allow-run-as-root{root}"),
            *(("--host", "{counts}"), "{exports}", "{argv}"),
        ),
        agents=(
            *("{program}", "-n", "{nodes}", "--oversubscribe", "--bind-to", "none", "--allow-run-as-root{root}"),
            *("--host", "{ones}", "{argv}"),
        ),
        export=("-x", "{name}"),
    ),
    Method(
        "mpiexec",
        ("mpiexec.hydra", "mpiexec", "mpirun"),
        ranks=("{program}", "-n", "{n}", "-bind-to", "none", ("-hosts", "{counts}"), "{argv}"),
        agents=(
            *("{program}", "-n", "{nodes}", "-ppn", "1", "-bind-to", "none", "-disable-auto-cleanup"),
            *("-hosts", "{hosts}", "{argv}"),
        ),
    ),
    Method(
        "prte",
        ("prterun",),
        ranks=(
            *("{program}", "--np", "{n}", "--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"),
            *("--allow-run-as-root{root}", ("--host", "{counts}"), "{exports}", "{argv}"),
        ),
        agents=(
            *("{program}", "--np", "{nodes}", "--map-by", "node:OVERSUBSCRIBE", "--bind-to", "none"),
            *("--allow-run-as-root{root}", "--host", "{ones}", "{argv}"),
        ),
        export=("-x", "{name}"),
    ),
    Method(
        "flux",
        ("flux",),
        ranks=(
            *("{program}", "run", "--nodes={nodes}", "--ntasks={n}", "--cores-per-task={cores}"),
            *("--gpus-per-task={gpus}", "--requires=host:{hosts}", "--setopt=cpu-affinity=off", "{argv}"),
        ),
        # Brokers but the first, which is where a batch script runs.
        agents=("{program}", "exec", "--noinput", "--exclude=0", "{argv}"),
        within="FLUX_URI",
    ),
    Method(
        "jsrun",
        ("jsrun",),
        ranks=("{program}", "--erf_input", "{file}", "{argv}"),
        agents=(
            *("{program}", "--nrs", "{nodes}", "--rs_per_host", "1", "--tasks_per_rs", "1", "--cpu_per_rs", "ALL_CPUS"),
            *("--gpu_per_rs", "ALL_GPUS", "--bind", "none", "{argv}"),
        ),
        within="LSB_JOBID",
        file="erf",
    ),
    Method(
        "aprun",
        ("aprun",),
        ranks=(
            *("{program}", "-n", "{n}", ("-N", "{per_node}"), "-d", "{cores}", "-cc", "none", "-L", "{hosts}"),
            "{argv}",
        ),
        agents=("{program}", "-n", "{nodes}", "-N", "1", "-cc", "none", "-L", "{hosts}", "{argv}"),
    ),
    Method("ibrun", ("ibrun",), ranks=("{program}", "-n", "{n}", "-o", "{first}", "{argv}")),
    Method(
        "qrsh",
        ("qrsh",),
        agents=("{program}", "-inherit", "-nostdin", "-V", "{host}", "{argv}"),
        each=True,
        within="PE_HOSTFILE",
    ),
    Method(
        "pbsdsh", ("pbsdsh",), agents=("{program}", "-n", "{first}", "--", "{argv}"), each=True, within="PBS_NODEFILE"
    ),
    Method(
        "simrun",
        ("simrun",),
        ranks=("{program}", "--ranks", "{n}", "--", "{argv}"),
        agents=("{program}", "--node", "{host}", "--", "{argv}"),
        each=True,
        within="SIM_JOB_ID",
    ),
    Method("blaunch", ("blaunch",), agents=("{program}", "{host}", "{argv}"), each=True, within="LSB_JOBID"),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
