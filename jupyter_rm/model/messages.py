"""Messages: everything that travels between two programs, both directions, in one file.

Clients talk to the broker with numbered requests and get one reply each, besides the feed of facts. Broker and agent
talk through a :class:`~jupyter_rm.wire.link.Link`, which makes a lossy, repeating, reordering network look like two
ordered streams; what a stream carries is below. Messages are msgpack arrays behind an integer tag; new fields go to the
end with a default. Read next: :mod:`jupyter_rm.wire.link`.
"""

from __future__ import annotations

import msgspec

from .columns import Column, Picks
from .describe import Template
from .errors import ErrorForm
from .facts import Ends, PilotSpec
from .late import Value
from .resources import Node
from .sites import SiteView
from .staging import Found

PROTOCOL = 1


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of all messages."""


# ---------------------------------------------------------------- client -> broker


class Hello(Message, tag=2, frozen=True):
    """First message of a client; answered by :class:`Welcome`."""

    req: int
    version: int = PROTOCOL
    role: str = "client"
    pid: int = 0


class Attach(Message, tag=3, frozen=True):
    """Follow a session: create it if ``create``. ``cursor`` is the last fact number already folded (0: none)."""

    req: int
    session: str
    create: bool = True
    cursor: int = 0
    owner: str = ""


class Submit(Message, tag=4, frozen=True):
    """Record a bulk. Repeating it with the same key is harmless.

    ``payload`` holds one pickled (args, kwargs) per call; ``functions`` the pickled functions named by
    ``template.function`` that this client has not sent before on this connection.
    """

    req: int
    session: str
    key: bytes
    count: int
    template: Template
    columns: dict[str, Column] = {}
    payload: Column | None = None
    functions: dict[bytes, bytes] = {}
    after: tuple[tuple[int, Picks], ...] = ()


class Cancel(Message, tag=5, frozen=True):
    """Cancel tasks: per bulk its picks (None: the whole bulk)."""

    req: int
    session: str
    what: tuple[tuple[int, Picks | None], ...]


class RequestPilot(Message, tag=6, frozen=True):
    """Ask for a pilot. Repeating it with the same key is harmless."""

    req: int
    session: str
    key: bytes
    spec: PilotSpec


class CancelPilot(Message, tag=7, frozen=True):
    """End a pilot; ``drain`` lets its running tasks end first."""

    req: int
    session: str
    pilot: int
    drain: bool = False


class CloseSession(Message, tag=8, frozen=True):
    """End the session: cancel what is open, end its pilots."""

    req: int
    session: str


class Detach(Message, tag=9, frozen=True):
    """Stop following a session; everything goes on."""

    req: int
    session: str


class ListSessions(Message, tag=10, frozen=True):
    """Ask for all sessions; answered by :class:`Sessions`."""

    req: int


class FetchValues(Message, tag=11, frozen=True):
    """Ask for results of calls; answered by :class:`Values`."""

    req: int
    session: str
    bulk: int
    picks: Picks


class FetchStory(Message, tag=12, frozen=True):
    """Ask for all facts that concern one task (``index`` -1: any of the bulk); answered by :class:`Story`."""

    req: int
    session: str
    bulk: int
    index: int


class Explain(Message, tag=13, frozen=True):
    """Ask why a task waits; answered by :class:`Explained`."""

    req: int
    session: str
    bulk: int
    index: int


class Status(Message, tag=14, frozen=True):
    """Ask the broker about itself; answered by :class:`BrokerStatus`."""

    req: int


class StopBroker(Message, tag=15, frozen=True):
    """End the broker process ``pid`` and no other that may serve here by now; agents keep working."""

    req: int
    pid: int


class Seen(Message, tag=16, frozen=True):
    """The client folded the feed of this session up to ``cursor``: credit for more."""

    session: str
    cursor: int


class Answer(Message, tag=17, frozen=True):
    """A person's answer to :class:`Asked` (for a host key: ``yes``), or that there will be none. Never recorded."""

    req: int
    session: str
    ask: int
    text: str = ""
    cancel: bool = False


class FetchFiles(Message, tag=18, frozen=True):
    """Please read ``size`` bytes from ``offset`` (negative: from the end) of files at a pilot's site."""

    req: int
    session: str
    pilot: int
    paths: tuple[str, ...]
    offset: int = 0
    size: int = 1 << 16


class AskSite(Message, tag=19, frozen=True):
    """What a person asks of sites: ``log in``, ``status``; ``hold, release, suspend, resume`` a pilot's job."""

    req: int
    session: str
    what: str = "log in"
    pilot: int = -1  # -1: all; what is done to a job needs one


class MoveFiles(Message, tag=20, frozen=True):
    """Please bring files to a pilot's site (``put``), from there (``get``), or name those of directories (``list``).

    Paths are absolute; of each pair one is this machine's. ``list`` has no targets.
    """

    req: int
    session: str
    pilot: int
    what: str
    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()


class SubmitBundle(Message, tag=22, frozen=True):
    """Record a pilot with the work that goes with it, all or nothing; a repeat is harmless. Bulks have own keys."""

    req: int
    session: str
    key: bytes
    spec: PilotSpec
    work: tuple[Submit, ...]


class GiveService(Message, tag=23, frozen=True):
    """A service that is no task can be reached at ``endpoint``; '' not any more."""

    req: int
    session: str
    name: str
    endpoint: str


# ---------------------------------------------------------------- broker -> client


class Welcome(Message, tag=32, frozen=True):
    """The broker greets."""

    req: int
    version: int
    incarnation: int
    pid: int
    host: str = ""


class Refused(Message, tag=33, frozen=True):
    """The request failed; nothing was done."""

    req: int
    error: ErrorForm


class Accepted(Message, tag=34, frozen=True):
    """The request is durably recorded. ``number`` is the bulk or pilot it made; ``count`` how many tasks it hit."""

    req: int
    number: int = 0
    count: int = 0


class Attached(Message, tag=35, frozen=True):
    """``snapshot`` (a ledger dump, empty: go on from your cursor) stands for all facts up to ``cursor``."""

    req: int
    session: str
    cursor: int
    snapshot: bytes
    created: bool = False


class Feed(Message, tag=36, frozen=True):
    """Facts of a session in order; ``cursor`` is the number of the last one. ``facts`` are in journal form."""

    session: str
    before: int
    cursor: int
    facts: tuple[msgspec.Raw, ...]


class SessionLine(msgspec.Struct, frozen=True, array_like=True):
    """One session in a listing; ``counts`` are tasks per state."""

    name: str
    opened_at: float
    closed: bool
    counts: tuple[int, ...]
    pilots: tuple[tuple[str, str, int], ...]
    clients: int


class Sessions(Message, tag=37, frozen=True):
    """All sessions."""

    req: int
    lines: tuple[SessionLine, ...]


class Values(Message, tag=38, frozen=True):
    """Results of calls; ``picks`` are those that have one."""

    req: int
    bulk: int
    picks: Picks
    values: Column


class Story(Message, tag=39, frozen=True):
    """(fact number, wall time, journal form) of everything about one task."""

    req: int
    facts: tuple[tuple[int, float, bytes], ...]


class Explained(Message, tag=40, frozen=True):
    """Why a task waits, in plain words."""

    req: int
    text: str


class BrokerStatus(Message, tag=41, frozen=True):
    """The broker about itself."""

    req: int
    incarnation: int
    pid: int
    uptime: float
    journal_rows: int
    journal_report: str
    sessions: int
    clients: int
    agents: int
    rss_kib: int


class Asked(Message, tag=42, frozen=True):
    """A login for a pilot of this session needs a person's word. Repeated to clients that attach later.

    ``kind`` is password, otp, passphrase or host_key; ``secret``: do not show what is typed.
    """

    session: str
    pilot: int
    ask: int
    kind: str
    host: str
    user: str
    text: str
    fingerprint: str = ""
    secret: bool = True
    key_type: str = ""


class AskOver(Message, tag=43, frozen=True):
    """This question needs no answer any more."""

    session: str
    ask: int


class FilesRead(Message, tag=44, frozen=True):
    """Answer to :class:`FetchFiles`: of each path the file's whole size (-1: not there) and what was asked for."""

    req: int
    sizes: tuple[int, ...]
    parts: tuple[bytes, ...]


class SiteSeen(Message, tag=45, frozen=True):
    """What a site of this session's pilots looks like from outside; a newer one replaces it. Never recorded."""

    session: str
    view: SiteView


class FilesMoved(Message, tag=46, frozen=True):
    """Answer to :class:`MoveFiles`: what is in its place now, or the files found, relative to their directory."""

    req: int
    names: tuple[str, ...]


# ---------------------------------------------------------------- agent <-> broker: outside the streams


class AgentHello(Message, tag=64, frozen=True):
    """An agent introduces itself, at start and after silence.

    ``hello`` counts its hellos; ``epoch`` its restarts; ``seq`` is the last report it wrote.
    """

    session: str
    pilot: int
    epoch: int
    hello: int
    seq: int
    version: int = PROTOCOL
    pid: int = 0
    host: str = ""
    nodes: tuple[Node, ...] = ()
    sandbox: str = ""
    stock: int = 0
    facts: dict[str, Value] = {}


class AgentWelcome(Message, tag=65, frozen=True):
    """The broker's answer: reports up to ``applied`` are safe, up to ``kept`` they may be forgotten."""

    session: str
    pilot: int
    epoch: int
    hello: int
    incarnation: int
    applied: int
    kept: int


class AgentRefused(Message, tag=66, frozen=True):
    """This agent is not wanted (stale epoch, ended pilot, other version): it must end."""

    session: str
    pilot: int
    epoch: int
    reason: str


class Down(Message, tag=67, frozen=True):
    """One frame of the stream broker -> agent; ``ack`` are reports in the journal, ``kept`` reports that are safe."""

    session: str
    pilot: int
    epoch: int
    hello: int
    incarnation: int
    seq: int
    ack: int
    kept: int
    body: bytes = b""


class Up(Message, tag=68, frozen=True):
    """One frame of the stream agent -> broker; ``ack`` is the last order taken."""

    session: str
    pilot: int
    epoch: int
    hello: int
    incarnation: int
    seq: int
    ack: int
    body: bytes = b""


# ---------------------------------------------------------------- orders: inside the stream broker -> agent


class Order(Message, frozen=True):
    """Base of what the broker orders an agent."""


class Assign(Order, tag=80, frozen=True):
    """Run these attempts. ``columns`` and ``payload`` are cut to the picks; ``template`` comes once per bulk."""

    bulk: int
    picks: Picks
    attempt: bytes
    template: Template | None = None
    columns: dict[str, Column] = {}
    payload: Column | None = None


class Function(Order, tag=81, frozen=True):
    """A pickled function that coming calls name by its sha256."""

    sha256: bytes
    body: bytes


class CancelTasks(Order, tag=82, frozen=True):
    """Cancel these tasks whatever their state; ``back``: only those not begun, which come back as :class:`Returned`."""

    bulk: int
    picks: Picks
    back: bool = False


class Drain(Order, tag=84, frozen=True):
    """Start nothing new; end when nothing runs."""


class Stop(Order, tag=85, frozen=True):
    """Kill what runs, report it, end."""

    cause: int = 0


class AskWhy(Order, tag=86, frozen=True):
    """Why does this task not run? Answered by :class:`Why`."""

    ask: int
    bulk: int
    index: int


class Deliver(Order, tag=87, frozen=True):
    """Files from the client's machine are there for tasks of a bulk, by source, or cannot be had."""

    bulk: int
    found: dict[str, Found]


# ---------------------------------------------------------------- reports: inside the stream agent -> broker


class Report(Message, frozen=True):
    """Base of what an agent reports; numbered, spooled, kept until the broker says so."""


class Started(Report, tag=96, frozen=True):
    """Attempts were started; vecs as in :class:`~jupyter_rm.model.facts.TasksStarted`."""

    bulk: int
    picks: Picks
    attempt: bytes
    node: bytes
    started: bytes


class Ended(Report, tag=97, frozen=True):
    """Attempts ended; vec ``state`` u1 as the agent saw it (DONE, FAILED or CANCELED).

    ``again``: the agent itself goes on with attempt + 1 of each (what it does with a bundle, asking nobody).
    """

    bulk: int
    picks: Picks
    attempt: bytes
    state: bytes
    ends: Ends
    again: bool = False


class Inventory(Report, tag=98, frozen=True):
    """At this point of the stream the agent holds exactly these attempts: (bulk, picks, attempt vec).

    First report after every welcome; ``hello`` says after which.
    """

    epoch: int
    hello: int
    held: tuple[tuple[int, Picks, bytes], ...]


class Returned(Report, tag=99, frozen=True):
    """Attempts given back unstarted (drained, or held here already as an earlier attempt)."""

    bulk: int
    picks: Picks
    attempt: bytes


class Stock(Report, tag=100, frozen=True):
    """How many unfinished tasks the agent wants to hold, and how fast it ends them."""

    stock: int
    rate: float = 0.0


class Why(Report, tag=101, frozen=True):
    """The answer to :class:`AskWhy`."""

    ask: int
    text: str


class Goodbye(Report, tag=102, frozen=True):
    """The agent ends now by its own decision; nothing runs any more."""

    cause: int
    reason: str


class Staged(Report, tag=103, frozen=True):
    """Inputs are in place (``state`` SCHEDULED), or the program ended and outputs are under way (STAGING_OUT)."""

    bulk: int
    picks: Picks
    attempt: bytes
    state: int


class Staging(Report, tag=104, frozen=True):
    """How far a file of a task is: ``done`` of ``size`` bytes."""

    bulk: int
    index: int
    text: str
    done: int
    size: int


class Serving(Report, tag=105, frozen=True):
    """An attempt of a service is ready: others reach it at its endpoint."""

    bulk: int
    index: int
    attempt: int
    endpoint: str
