"""Two hundred jobs of several users on real Slurm behind a real sshd: places are the scheduler's own order, and a
person sees them in a cell's picture and in JupyterLab."""

from __future__ import annotations

import random
import re

from cluster_kit import Cluster, eventually
from far_kit import Far
from lab_kit import Jupyter, Talk, faults, open_lab, shoot, show_panel, until
from playwright.sync_api import Page

import jupyter_rm as jrm
from jupyter_rm.batch.picture import SitePicture
from jupyter_rm.broker.seen import view_of
from jupyter_rm.notebook import look
from jupyter_rm.views.lines import JOB_COLUMNS, Lines

SITE = "slurm+ssh://alice@tb-slurm"


def order(slurm: Cluster) -> list[str]:
    """The line as the scheduler has it."""
    return slurm.run("squeue", "-h", "-p", "batch", "-t", "PD", "-S", "-p,i", "-o", "%i").split()


def places(rows: list[list[object]]) -> list[str]:
    """Ids of the jobs in line as a view shows them; their places count up from 1."""
    at, id = JOB_COLUMNS.index("position"), JOB_COLUMNS.index("id")
    shown = [row for row in rows if row[at]]
    assert [row[at] for row in shown] == list(range(1, len(shown) + 1))
    return [str(row[id]) for row in shown]


def test_places_are_the_order_of_the_scheduler(slurm: Cluster, line: list[str]) -> None:
    chance = random.Random(11)
    with slurm.connect("paramiko", "slurm") as connection:
        site = slurm.site(connection, "slurm")
        for step in range(10):
            seen = view_of(SITE, "Slurm", SitePicture(step, queue=site.queue(), queues=tuple(site.queues())))
            rows = Lines({SITE: seen}, {}, "", {SITE: "slurm"}).jobs(limit=1000).rows
            wanted = order(slurm)
            assert len(wanted) == 200 and places(rows) == wanted, f"step {step}"
            mine = [row for row in rows if row[JOB_COLUMNS.index("mine")]]
            assert {row[JOB_COLUMNS.index("user")] for row in mine} == {"alice"} and len(mine) == 10
            moved = chance.sample(line, 5)
            slurm.run(
                "sh", "-c", "".join(f"scontrol update jobid={id} priority={chance.randrange(9000)};" for id in moved)
            )
        assert {"batch", "debug", "gpu"} <= {queue.name for queue in seen.queues}


def test_a_person_sees_the_line(
    far: Far,
    afar: Jupyter,
    slurm: Cluster,
    line: list[str],
    page: Page,
    talk: Talk,
) -> None:
    session = jrm.open("line")
    pilot = session.pilot(SITE, nodes=1, queue="batch", walltime="5m")
    view = eventually(
        lambda: (made := session.sites.get(SITE)) and len(made.jobs) > 200 and made.nodes and made,
        lambda: f"nothing was heard: {pilot!r} {session.sites}",
        120,
    )
    picture = look.picture(session, "queue", {"rows": 1000})
    shown, now = places(picture.tables["jobs"].rows), order(slurm)
    # The pilot's own priority has moved on since it was listed; the others' stand still.
    assert [id for id in shown if id != pilot.job_id] == [id for id in now if id != pilot.job_id]
    assert pilot.queue_position == shown.index(pilot.job_id) + 1
    assert "bob" in session.view("queue")._repr_mimebundle_()["text/html"]

    open_lab(page, afar)
    show_panel(page)
    page.click(".jrm-session[data-session=line]")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Queue").click()
    queue = page.locator(".jrm-v-queue")
    jobs = queue.get_by_role("region", name="Everybody’s jobs, by their place in the line")
    jobs.locator("tbody tr").nth(150).wait_for()
    mine = jobs.get_by_role("row", name=re.compile(rf"^{pilot.job_id}\s"))
    assert f"{pilot.queue_position} of 201" in mine.inner_text() and "alice (you)" in mine.inner_text()
    sites = queue.get_by_role("region", name="Sites, as they were heard of last")
    assert "Slurm" in sites.inner_text() and "ago" in sites.inner_text()
    queue.locator(".bk-Figure").nth(4).wait_for(state="visible", timeout=60_000)  # the line is seen once it has jobs
    until(page, lambda: "200 of 202 jobs" in queue.inner_text(), "how many jobs there are is not told")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shoot(page, "queue-line")
    queue.get_by_label("Jobs", exact=True).fill("running")
    until(page, lambda: jobs.locator("tbody tr").count() == 1, "the search finds more than the job that runs")
    # A job that is chosen in the list is marked in the list, in the line and on the map.
    jobs.get_by_role("button", name=view.jobs[-1].id, exact=True).click()
    chosen = jobs.locator("tr.jrm-linked")
    until(page, lambda: chosen.count() == 1 and view.jobs[-1].id in chosen.inner_text(), "the choice is not marked")
    page.locator("#jupyter_rm-panel").get_by_role("group", name="Views").get_by_role("button", name="Nodes").click()
    nodes = page.locator(".jrm-v-nodes")
    nodes.get_by_label("Layout").select_option("site")
    nodes.get_by_label("Colour").select_option("user")
    nodes.get_by_role("button", name="Table").click()
    until(page, lambda: nodes.locator("tr.jrm-linked").count() == 4, "the nodes of the chosen job are not marked")
    nodes.locator(".bk-Figure").nth(1).wait_for(timeout=60_000)
    shoot(page, "nodes-by-user")
    # The form offers what the broker heard of the site's queues; another name of the site is looked at when asked.
    page.locator("#jupyter_rm-panel").get_by_role("button", name="Start pilot").click()
    form = page.locator("#jupyter_rm-panel").get_by_role("form")
    form.get_by_label("Site", exact=True).fill(SITE)
    queues = form.get_by_label("Queue", exact=True).locator("option")
    until(page, lambda: "gpu" in queues.all_inner_texts(), "the queues are no choices")
    assert sorted(queues.all_inner_texts()) == ["batch", "debug", "gpu", "idlecyc", "scavenge"]
    form.get_by_label("Queue", exact=True).select_option("debug")
    form.get_by_label("Time limit").fill("1h")
    until(page, lambda: "longer than queue debug allows" in form.inner_text(), "the limit is not told")
    form.get_by_label("Site", exact=True).fill("slurm+ssh://bob@tb-slurm")
    until(page, lambda: queues.count() == 0, "the queues of one account are shown for another")
    form.get_by_role("button", name="Look for its queues").click()
    until(page, lambda: "gpu" in queues.all_inner_texts(), "nothing was found")
    assert "5 queues, 2 projects, found" in form.inner_text()
    form.get_by_label("Site", exact=True).fill("slurm+ssh://bob@127.0.0.1:1")
    until(page, lambda: queues.count() == 0, "the queues of one site are shown for another")
    form.get_by_role("button", name="Look for its queues").click()
    until(page, lambda: "Queues were not found" in form.inner_text(), "a failure is not told")
    assert form.get_by_label("Queue", exact=True).is_editable(), "the form is not open"
    shoot(page, "form-queues")
    assert faults(page, "#jupyter_rm-panel") == []
    form.get_by_role("button", name="Not now").click()
    assert faults(page, ".jrm-v-nodes") + faults(page, ".jrm-v-queue") == []
    session.close()
    assert talk.ours == []
