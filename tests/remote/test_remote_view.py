"""What a session sees of a site: its own job, the jobs of others in the same line, and the nodes."""

from __future__ import annotations

from cluster_kit import eventually
from remote_kit import Far

from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session


def test_others_and_nodes_are_seen_while_a_pilot_waits(far: Far, study: Session) -> None:
    run = far.cluster.run
    ids = [
        run("sbatch", "--parsable", "--hold", "--comment=<b>not for others</b>", "--wrap=true", user="bob").strip(),
        run("sbatch", "--parsable", "--begin=now+1hour", "--wrap=true", user="bob").strip(),
    ]
    try:
        site = "slurm+ssh://alice@tb-slurm"
        pilot = study.pilot(site, nodes=1, options={"hold": "true"})
        view = eventually(
            lambda: (seen := study.sites.get(site)) and seen.jobs and seen.nodes and seen,
            lambda: f"nothing was seen: {study.sites} {pilot!r}",
            within_s=120,
        )
        mine = [job for job in view.jobs if job.mine and job.state != "running"]  # an earlier test's may just be ending
        assert [(job.id, job.user, job.state) for job in mine] == [(pilot.job_id, "alice", "queued:held")]
        others = {job.id: job for job in view.jobs if not job.mine}
        assert set(ids) <= set(others) and {others[id].user for id in ids} == {"bob"}
        assert "not for others" not in repr(view)
        assert [node.name for node in view.nodes] == ["n01", "n02", "n03", "n04"] and view.nodes[0].gpus == 2
        assert view.whole and view.heard["nodes"] and not view.failures
        assert "jobs of yours" in repr(view)
        study.detach()
        again = sessions.open(study.name)
        seen = eventually(lambda: again.sites.get(site), "who comes later does not see it")
        assert mine[0].id in {job.id for job in seen.jobs if job.mine}
    finally:
        run("scancel", *ids)
