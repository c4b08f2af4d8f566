"""What every transport must do, on this machine, through paramiko and through OpenSSH."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from connect_kit import Bed, echo_server, eventually, talk

from jupyter_rm.model.errors import LinkError, RequestError, SiteError
from jupyter_rm.runtime.connect import Address, Connection

LIMIT = 4 << 20


@pytest.fixture(scope="module", params=["local", "paramiko", "openssh"])
def there(request: pytest.FixtureRequest, bed: Bed) -> Iterator[Connection]:
    """A connection on which many things happen one after the other."""
    with bed.connect(request.param, output_limit=LIMIT, session_wait_s=2.0) as connection:
        yield connection


@pytest.fixture
def place(there: Connection, bed: Bed) -> Iterator[str]:
    """An empty directory on the other side."""
    path = f"/var/tmp/jrm-place-{os.getpid()}-{os.urandom(4).hex()}"
    there.mkdir(path)
    yield path
    there.remove(path, recursive=True)


def running(word: str) -> list[psutil.Process]:
    return [one for one in psutil.process_iter() if word in " ".join(_words(one))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def test_a_command_and_what_it_leaves(there: Connection) -> None:
    done = there.run(["sh", "-c", "cat; echo complaint >&2; exit 7"], stdin=b"given")
    assert (done.rc, done.out, done.err) == (7, b"given", b"complaint\n")
    assert there.run(["true"]).rc == 0
    assert there.run(["no-such-program-here"]).rc == 127
    assert there.run(["sh", "-c", "kill -9 $$"]).rc == 137
    assert there.run(["sh", "-c", "exit 255"]).rc == 255
    assert there.run(["sh", "-c", 'printf %s "$A"'], env={"A": "b c'\n"}).out == b"b c'\n"


def test_arguments_arrive_byte_for_byte_and_run_nothing(there: Connection, place: str) -> None:
    words = [
        "",
        "a b",
        "'",
        "\\'",
        "!",
        "$(touch canary)",
        "`touch canary`",
        "x\ny",
        "; touch canary",
        "é\udcff",
        "-n",
        "*",
    ]
    done = there.run(["sh", "-c", 'cd "$1"; shift; printf "%s\\0" "$@"', "sh", place, *words])
    assert [os.fsdecode(part) for part in done.out.split(b"\0")[:-1]] == words
    assert there.list(place) == []
    with pytest.raises(RequestError) as caught:
        there.run(["echo", "a\0b"])
    assert "argv[1]" in caught.value.message


def test_much_in_and_out_at_once(there: Connection) -> None:
    data = os.urandom(LIMIT - 1)
    assert there.run(["cat"], stdin=data).out == data


def test_more_output_than_agreed_is_refused_and_does_not_hang(there: Connection) -> None:
    with pytest.raises(RequestError) as caught:
        there.run(["head", "-c", str(LIMIT * 3), "/dev/zero"])
    assert caught.value.code == "JRM-Q74"


def test_time_over_kills_the_whole_group_there(there: Connection) -> None:
    word = f"31.{os.getpid()}{os.urandom(3).hex()[:2].translate(str.maketrans('abcdef', '012345'))}1"
    with pytest.raises(LinkError) as caught:
        there.run(["sh", "-c", f"sleep {word} & sleep {word}"], timeout=1)
    assert caught.value.code == "JRM-T28"
    eventually(lambda: not running(word), f"still there: {running(word)}")


def test_a_stream_is_live_both_ways_and_can_be_killed(there: Connection) -> None:
    with there.start(
        ["sh", "-c", 'while read line; do echo "got $line"; echo "err $line" >&2; done; sleep 100']
    ) as stream:
        for word in (b"one", b"two"):
            stream.write(word + b"\n")
            assert stream.out.read(timeout=10) == b"got " + word + b"\n"
            assert stream.err.read(timeout=10) == b"err " + word + b"\n"
        stream.close_stdin()
        assert stream.wait(0.1) is None
        assert stream.rc is None
        stream.kill()
        assert stream.wait(10) == 143
        assert stream.out.read(timeout=10) == b""


def test_a_slow_reader_loses_nothing(there: Connection) -> None:
    size = 9 << 20  # more than is held on the way
    with there.start(["head", "-c", str(size), "/dev/zero"]) as stream:
        stream.close_stdin()
        assert stream.wait(0.5) in (None, 0)
        assert len(stream.out.read_all()) == size
        assert stream.wait(10) == 0


def test_lines_of_a_stream(there: Connection) -> None:
    with there.start(["printf", "a\\nb\\nc"]) as stream:
        assert list(stream.out) == [b"a\n", b"b\n", b"c"]


def test_small_files(there: Connection, place: str) -> None:
    there.mkdir(f"{place}/a/b")
    there.mkdir(f"{place}/a/b")
    there.write(f"{place}/a/f", b"one", mode=0o640)
    there.write(f"{place}/a/f", b"two")
    assert there.read(f"{place}/a/f") == b"two"
    assert [(entry.name, entry.kind, entry.size) for entry in there.list(f"{place}/a")][1:] == [("f", "file", 3)]
    found = there.stat(f"{place}/a/f")
    assert found is not None
    assert found.mode == 0o600
    assert there.stat(f"{place}/nothing") is None
    with pytest.raises(SiteError) as caught:
        there.read(f"{place}/nothing")
    assert "nothing" in caught.value.message
    with pytest.raises(SiteError):
        there.mkdir(f"{place}/a/f")
    with pytest.raises(SiteError):
        there.write("/proc/nothing", b"")
    with pytest.raises(RequestError):
        there.remove("/", recursive=True)
    there.remove(f"{place}/a/f")
    there.remove(f"{place}/a/f")
    there.remove(f"{place}/a/b")
    assert there.list(f"{place}/a") == []


def test_a_broken_transfer_is_continued_and_checked(there: Connection, place: str, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(6 << 20))
    source.chmod(0o754)
    seen: list[int] = []

    def broken(done: int, _size: int) -> None:
        if done >= 3 << 20:
            raise KeyboardInterrupt

    def watched(done: int, _size: int) -> None:
        seen.append(done)

    with pytest.raises(KeyboardInterrupt):
        there.put(source, f"{place}/goal", progress=broken)
    assert there.stat(f"{place}/goal") is None
    wanted = there.put(source, f"{place}/goal", progress=watched)
    assert wanted == hashlib.sha256(source.read_bytes()).hexdigest()
    assert seen[0] > 3 << 20  # not from the beginning
    assert seen[-1] == 6 << 20
    info = there.stat(f"{place}/goal")
    assert info is not None
    assert (info.mode, info.size) == (0o754, 6 << 20)
    assert len(there.list(place)) == 1

    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        there.get(f"{place}/goal", back, progress=broken)
    assert not back.exists()
    assert there.get(f"{place}/goal", back, progress=watched) == wanted
    assert seen[0] > 3 << 20
    assert back.read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "source"]


def test_a_damaged_part_is_noticed_and_sent_again(there: Connection, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 200_000)
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    there.write(f"{place}/.goal.{wanted[:16]}.part", b"damaged" * 1000)
    assert there.put(source, f"{place}/goal") == wanted
    assert there.read(f"{place}/goal") == source.read_bytes()
    (tmp_path / f".back.{wanted[:16]}.part").write_bytes(b"damaged" * 1000)
    assert there.get(f"{place}/goal", tmp_path / "back") == wanted
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_goal_that_cannot_be_is_refused_and_nothing_is_left(there: Connection, place: str, tmp_path: Path) -> None:
    there.mkdir(f"{place}/dir")
    (tmp_path / "f").write_bytes(b"1")
    with pytest.raises(SiteError):
        there.put(tmp_path / "f", f"{place}/dir")
    assert [entry.name for entry in there.list(place)] == ["dir"]
    there.put(tmp_path / "f", f"{place}/g")
    with pytest.raises(RequestError):
        there.get(f"{place}/g", tmp_path / "nowhere" / "g")
    with pytest.raises(RequestError):
        there.put(tmp_path / "nothing", f"{place}/h")
    with pytest.raises(SiteError):
        there.get(f"{place}/nothing", tmp_path / "h")


def test_odd_names(there: Connection, place: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    for name in ("a b", "-rf", "it's", "$(x)", "é", "new\nline", "!"):
        there.put(tmp_path / "f", f"{place}/{name}")
        assert there.read(f"{place}/{name}") == b"1"
        there.get(f"{place}/{name}", tmp_path / "g")


@pytest.mark.parametrize("listen", ["path", "port"])
@pytest.mark.parametrize("goal", ["path", "port"])
def test_forward(there: Connection, bed: Bed, tmp_path: Path, listen: str, goal: str) -> None:
    data = os.urandom(300_000)
    where = None if listen == "path" else Address("127.0.0.1", 0)
    path = bed.state / f"echo-{os.urandom(3).hex()}" if goal == "path" else None
    with echo_server(path) as end:
        to = {"path": end} if path else {"host": "127.0.0.1", "port": end}
        with there.forward(**to, listen=where) as door:
            if listen == "path":
                assert Path(door.address.path).stat().st_mode & 0o777 == 0o600
                assert Path(door.address.path).parent.stat().st_mode & 0o777 == 0o700
            with ThreadPoolExecutor(8) as pool:  # more at once than sessions are left
                assert set(pool.map(lambda _: talk(door.address, data), range(16))) == {data}
        with pytest.raises(OSError):
            talk(door.address, b"x", 1)


@pytest.mark.parametrize("listen", ["path", "port"])
@pytest.mark.parametrize("goal", ["path", "port"])
def test_reverse(there: Connection, bed: Bed, tmp_path: Path, listen: str, goal: str) -> None:
    data = os.urandom(300_000)
    where = Address(path=f"/var/tmp/jrm-r{os.urandom(3).hex()}") if listen == "path" else Address("127.0.0.1", 0)
    path = tmp_path / "echo" if goal == "path" else None
    with echo_server(path) as end:
        to = {"path": end} if path else {"host": "127.0.0.1", "port": end}
        with there.reverse(where, **to) as door, ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: talk(door.address, data), range(8))) == {data}
        eventually(lambda: not answers(door.address), "the door is still open")
    there.remove(where.path) if where.path else None


def answers(address: Address) -> bool:
    try:
        return talk(address, b"x", 1) == b"x"
    except OSError:
        return False


def test_a_dead_end_ends_the_visitor(there: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with there.forward("127.0.0.1", port) as door, pytest.raises((ConnectionError, AssertionError)):
        assert talk(door.address, b"x")


@pytest.mark.parametrize(
    "bad", [{"host": "a"}, {"port": 1}, {}, {"host": "a", "port": 1, "path": "/x"}, {"path": "/a\nb"}]
)
def test_bad_forwards_are_refused(there: Connection, bad: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        there.forward(**bad)  # type: ignore[arg-type]


def test_more_commands_at_once_than_sessions(there: Connection) -> None:
    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda n: there.run(["sh", "-c", f"sleep 0.1; echo {n}"]).text, range(32)))
    assert done == [str(n) for n in range(32)]


def test_streams_leave_room_for_commands(there: Connection) -> None:
    streams = [there.start(["cat"]) for _ in range(8)]
    try:
        assert there.run(["true"]).rc == 0
        with pytest.raises(LinkError) as caught:
            there.start(["cat"])
        assert caught.value.code == "JRM-T27"
    finally:
        for stream in streams:
            stream.close_stdin()
        assert [stream.wait(10) for stream in streams] == [0] * 8
    eventually(lambda: there.start(["true"]).wait(10) == 0, "no session became free")


def test_round_trip_and_life(there: Connection) -> None:
    assert there.alive
    assert there.state == "up"
    assert 0 <= there.rtt() < 1


@pytest.mark.parametrize("transport", ["local", "paramiko", "openssh"])
def test_closing_ends_what_is_under_way_and_leaves_nothing(bed: Bed, transport: str) -> None:
    settings = bed.settings(transport)
    connection = bed.connect(transport, control_dir=settings.control_dir)
    word = f"47.{os.getpid()}{int.from_bytes(os.urandom(2), 'big')}1"
    stream = connection.start(["sleep", word])
    eventually(lambda: running(word), "never ran")
    door = connection.forward("127.0.0.1", 1)
    heard: list[str] = []
    connection.listen(lambda event: heard.append(event.kind))
    caught: list[BaseException] = []

    def waiting() -> None:
        try:
            stream.wait(30)
        except LinkError as error:
            caught.append(error)

    thread = threading.Thread(target=waiting)
    thread.start()
    connection.close()
    thread.join(10)
    assert not thread.is_alive()
    eventually(lambda: not running(word), "the command is still there")
    assert heard == ["closed"]
    assert not Path(door.address.path).exists()
    assert list(settings.control_dir.iterdir()) == [] if settings.control_dir.exists() else True
    with pytest.raises(LinkError) as error:
        connection.run(["true"])
    assert error.value.code == "JRM-T05"
    assert running(str(settings.control_dir)) == []
