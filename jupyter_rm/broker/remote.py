"""Pilots elsewhere, as the broker's loop sees them: orders in, news out, nothing that blocks.

Each site has a thread of its own (:mod:`jupyter_rm.broker.site`). Here stands what they share: connections, roads to
agents, questions to people. Read next: :mod:`jupyter_rm.broker.site`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from ..core.session import SITES
from ..model.effects import EndPilot, Input, JobChanged, StartPilot
from ..model.errors import JrmError
from ..model.messages import Accepted, Answer, AskSite, FetchFiles, Message, MoveFiles
from ..model.states import Cause
from ..runtime.drive import Drive
from ..runtime.home import Home, private_directory
from .links import Key, Links
from .questions import Questions
from .seen import Seen

if TYPE_CHECKING:  # a broker without pilots elsewhere starts without all this
    from ..model.facts import PilotSpec
    from ..runtime.connect import Connections, ConnectSettings
    from .fetch import Fetcher
    from .places import Places
    from .site import Site

log = logging.getLogger("jupyter_rm.broker")
# How long the end of the broker waits for all its sites, s.
CLOSE_S = 3.0


def check_site(spec: PilotSpec) -> None:
    """Refuse a pilot that its site cannot give (RequestError)."""
    if spec.script:
        from .ownscript import check as check_script

        check_script(spec)
        return
    if spec.site in SITES and not (spec.launch or spec.hooks):
        return
    from .sites import check

    check(spec)


def settings_of(home: Home) -> ConnectSettings:
    """Return how connections are made: what the environment says, sockets in the profile's own directory."""
    from ..runtime.connect import ConnectSettings
    from .sites import login_policy

    config = os.environ.get("JUPYTER_RM_SSH_CONFIG", "")
    ssh_config = Path(config) if config else None
    return ConnectSettings(
        control_dir=private_directory(home.run / "ssh"),
        transport=os.environ.get("JUPYTER_RM_SSH_TRANSPORT", "") or "auto",
        ssh_config=ssh_config,
        policy=partial(login_policy, ssh_config=ssh_config),
        use_agent=os.environ.get("JUPYTER_RM_SSH_AGENT", "1") != "0",
    )


class RemoteJobs:
    """All sites but this machine's own.

    Args:
        tell: hands an input to the machine; runs in the loop. take: gets frames of agents with the pilot they are of.
        say: sends a message about a session to its followers. followed: says whether it has any.
    """

    def __init__(
        self,
        home: Home,
        drive: Drive,
        context: zmq.Context[Any],
        tell: Callable[[Input], None],
        take: Callable[[Key, bytes], None],
        say: Callable[[str, Callable[[str], Message]], None],
        followed: Callable[[str], bool],
    ) -> None:
        self._home, self._drive = home, drive
        self._tell_machine, self._followed = tell, followed
        self.links = Links(context, drive, take, self._road_changed)
        self.questions = Questions(drive, say, followed)
        self._seen = Seen(say, home)
        self._connections: Connections | None = None
        self._fetcher: Fetcher | None = None
        self._places: Places | None = None
        self._sites: dict[str, Site] = {}
        self._of: dict[Key, Site] = {}

    @property
    def alive(self) -> int:
        """Return how many pilots are looked after."""
        return len(self._of)

    def start(self, order: StartPilot) -> None:
        """Have a pilot submitted at its site, or found again there."""
        key = (order.session, order.pilot)
        if key in self._of:
            return
        try:
            site = self._site(order.spec.site)
        except (JrmError, OSError) as error:
            self._tell_machine(JobChanged(*key, False, cause=int(Cause.SUBMIT_REJECTED), reason=str(error)))
            return
        self._of[key] = site
        site.start_pilot(order)

    def _shared(self) -> Connections:
        from ..runtime.connect import Connections

        if self._connections is None:
            self._connections = Connections(settings_of(self._home))
        return self._connections

    def connections(self) -> Connections:
        """Return the connections of all sites (in the loop)."""
        return self._shared()

    def files(self, spec: PilotSpec, asked: FetchFiles | MoveFiles, answer: Callable[[Message], object]) -> None:
        """Read or move files at a pilot's site; ``answer`` is called from the loop."""
        from .fetch import Fetcher

        if self._fetcher is None:
            self._fetcher = Fetcher(self._shared(), self._home)
        self._fetcher.read(spec, asked, lambda message: self._drive.call(lambda: _call(answer, message)))

    def _site(self, text: str) -> Site:
        from .places import Places
        from .site import Site
        from .sites import parse

        name = parse(text)
        found = self._sites.get(name.key)
        if found is None:
            if self._places is None:
                self._places = Places(self._home)
            found = self._sites[name.key] = Site(
                name,
                self._shared(),
                self._places,
                self.links,
                self.questions,
                lambda news: self._drive.call(lambda: self._heard(news)),
                self._drive.call,
                self._followed,
                self._seen,
            )
            found.start()
        return found

    def _heard(self, news: Input) -> None:
        if isinstance(news, JobChanged) and not news.alive:
            self._of.pop((news.session, news.pilot), None)
        self._tell_machine(news)

    def end(self, order: EndPilot) -> None:
        """Have a pilot's job canceled."""
        site = self._of.get((order.session, order.pilot))
        if site is not None:
            self.questions.withdraw((order.session, order.pilot))
            site.end_pilot((order.session, order.pilot), order.lost)

    def _road_changed(self, key: Key) -> None:
        site = self._of.get(key)
        if site is not None:
            site.look(key)

    def came(self, session: str, label: str) -> list[Message]:
        """Somebody follows a session now: return what is asked of them."""
        self.person_came(session)
        return [*self.questions.came(session, label), *self._seen.came(session, label)]

    def person_came(self, session: str) -> None:
        """Somebody can answer questions for a session: logins that wait for that are tried again."""
        for site in {site for key, site in self._of.items() if key[0] == session}:
            site.person_came()

    def asked(self, session: str, message: AskSite, answer: Callable[[Message], None]) -> None:
        """Do what a person asks of sites; ``answer`` is called from the loop. RequestError: it means nothing there."""
        from .asked import ask

        if message.what == "log in":
            self.person_came(session)
            answer(Accepted(message.req))
            return
        sites = {key: site for key, site in self._of.items() if key[0] == session and message.pilot in (-1, key[1])}
        ask(sites, session, message, lambda told: self._drive.call(lambda: _call(answer, told)))

    def answer(self, session: str, message: Answer) -> None:
        """Hand a person's answer over; RequestError when the question is not open."""
        self.questions.answer(session, message)

    def close(self) -> None:
        """Let go of everything; pilots go on."""
        for site in self._sites.values():
            site.stop()
        if self._fetcher is not None:
            self._fetcher.close()
        if self._connections is not None:
            self._connections.close()
        patience = time.monotonic() + CLOSE_S
        for site in self._sites.values():
            site.join(max(0.0, patience - time.monotonic()))  # one that hangs in a login is left to the system
        self.links.close_all()


def _call(answer: Callable[[Message], object], message: Message) -> None:
    answer(message)
