"""State and socket directories: private, short, lazily made; anything unsafe is refused; one broker at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_rm.model.errors import JrmError, RequestError, SiteError
from jupyter_rm.runtime import home as module
from jupyter_rm.runtime.home import Home, filesystem_of, is_network, private_directory, require_local, write_private


@pytest.fixture
def place() -> Iterator[Path]:
    """A short private directory (pytest's own are too long for socket paths)."""
    with tempfile.TemporaryDirectory(prefix="jrmt-", dir="/tmp") as made:
        yield Path(made).resolve()


def locate(place: Path, profile: str = "default", **more: str) -> Home:
    return Home.locate(profile, {"JUPYTER_RM_HOME": str(place / "home"), **more})


def test_nothing_is_made_before_it_is_asked_for(place: Path) -> None:
    home = locate(place)
    assert list(place.iterdir()) == []
    assert home.journal == place / "home/default/journal"
    assert (place / "home/default").stat().st_mode & 0o777 == 0o700
    assert (place / "home").stat().st_mode & 0o777 == 0o700
    assert not (place / "home/default/sandboxes").exists()
    assert home.sandboxes == place / "home/default/sandboxes"
    assert home.broker_log == place / "home/default/broker.log"


def test_a_loose_umask_does_not_matter(place: Path) -> None:
    old = os.umask(0)
    try:
        home = locate(place)
        with home.lock():
            home.socket("broker")
        assert {path.stat().st_mode & 0o077 for path in place.rglob("*")} == {0}
    finally:
        os.umask(old)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o702, 0o500])
def test_a_wrong_mode_is_refused_and_says_what_to_do(place: Path, mode: int) -> None:
    home = locate(place)
    home.state.chmod(mode)
    with pytest.raises(RequestError) as caught:
        home.journal  # noqa: B018 - asking is what is tested
    assert caught.value.code == "JRM-C64"
    assert f"{mode:04o}" in caught.value.message
    assert "chmod 0700" in caught.value.hint
    assert home.state_path.stat().st_mode & 0o777 == mode, "refused, not repaired"


def test_a_link_or_a_file_in_its_place_is_refused(place: Path) -> None:
    (place / "elsewhere").mkdir(mode=0o700)
    (place / "home").mkdir(mode=0o700)
    (place / "home/default").symlink_to(place / "elsewhere")
    (place / "home/dangling").symlink_to(place / "nowhere")
    (place / "home/file").write_text("x")
    for profile in ("default", "dangling", "file"):
        with pytest.raises(RequestError) as caught:
            locate(place, profile).journal  # noqa: B018
        assert caught.value.code == "JRM-C64", profile


def test_a_place_that_cannot_be_made_is_named(place: Path) -> None:
    (place / "home").write_text("x")
    with pytest.raises(SiteError, match=f"{place}/home/default cannot be made: Not a directory") as caught:
        locate(place).journal  # noqa: B018
    assert caught.value.code == "JRM-D22"
    assert "JUPYTER_RM_HOME" in caught.value.hint
    with pytest.raises(SiteError, match="cannot be made") as caught:
        Home.locate("default", {"JUPYTER_RM_SANDBOX": f"{place}/home/x"}).sandboxes  # noqa: B018
    assert "JUPYTER_RM_SANDBOX" in caught.value.hint


def test_a_parent_that_others_can_change_is_refused_unless_sticky(place: Path) -> None:
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(RequestError, match="can be changed by others"):
        private_directory(shared / "state")
    assert not (shared / "state").exists()
    shared.chmod(0o1777)
    assert private_directory(shared / "state").stat().st_mode & 0o777 == 0o700


def test_another_users_directory_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = locate(place)
    home.state  # noqa: B018
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(RequestError, match="belongs to user") as caught:
        home.journal  # noqa: B018
    assert caught.value.code == "JRM-C64"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\nb", "a" * 65, "ä"])
def test_a_profile_name_cannot_lead_elsewhere(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        Home.locate(name, {})
    assert caught.value.code == "JRM-C65"


def test_a_relative_home_is_refused() -> None:
    with pytest.raises(RequestError, match="absolute"):
        Home.locate("default", {"JUPYTER_RM_HOME": "here"})


def test_sockets_stand_in_the_home_when_it_is_short(place: Path) -> None:
    home = locate(place)
    path = home.socket("broker")
    assert path == place / "home/default/run/broker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def test_a_long_home_gets_a_short_socket_place_that_everybody_finds(place: Path) -> None:
    deep = place / ("d" * 60) / ("e" * 60)
    home = Home.locate("default", {"JUPYTER_RM_HOME": str(deep)})
    path = home.socket("broker")
    try:
        assert len(os.fsencode(path)) <= 100
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert Home.locate("default", {"JUPYTER_RM_HOME": str(deep)}).socket("broker") == path
        # After a reboot /tmp is empty: a new place, for everybody again.
        path.parent.rmdir()
        path = home.socket("broker")
        assert path.parent.is_dir()
        assert home.socket("broker") == path
        # A place that others could have touched is not used again.
        path.parent.chmod(0o777)
        other = home.socket("broker")
        assert other.parent != path.parent
        other.parent.rmdir()
    finally:
        path.parent.rmdir()


def test_the_runtime_directory_is_used_when_there_is_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "run").mkdir(mode=0o700)
    monkeypatch.setattr(module.platformdirs, "user_state_dir", lambda _name: str(place / "state"))

    def located(profile: str, runtime: str) -> Home:
        home = Home.locate(profile, {"XDG_RUNTIME_DIR": str(place / runtime)})
        assert home.socket_choices[1] == Path(f"/tmp/jrm-{os.geteuid()}") / profile
        return dataclasses.replace(home, socket_choices=(home.socket_choices[0], place / f"jrm-1/{profile}"))

    home = located("p1", "run")
    assert home.socket("broker") == place / "run/jupyter_rm/p1/broker.sock"
    assert home.journal == place / "state/p1/journal"
    squatted = place / "run/jupyter_rm/p2"
    squatted.mkdir()
    squatted.chmod(0o755)
    assert located("p2", "run").run == place / "jrm-1/p2", "an unsafe place is passed over"
    assert located("p1", "never-made").run == place / "jrm-1/p1"
    assert not (place / "never-made").exists()
    (place / "jrm-1").chmod(0o755)
    pointed = located("p1", "never-made").run
    assert pointed.parent == Path("/tmp"), "nothing safe: a fresh one"
    pointed.rmdir()


def test_one_holder_and_its_number_is_told(place: Path) -> None:
    home = locate(place)
    assert home.holder() is None
    script = (
        "import sys; from jupyter_rm.runtime.home import Home\n"
        "lock = Home.locate(environ={'JUPYTER_RM_HOME': sys.argv[1]}).lock()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(place / "home")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RequestError, match=f"pid {other.pid}") as caught:
        home.lock()
    assert caught.value.code == "JRM-R08"
    holder = home.holder()
    assert holder is not None
    assert holder.pid == other.pid
    with other:
        other.kill()
    with home.lock():
        holder = home.holder()
        assert holder is not None
        assert holder.pid == os.getpid()
    assert home.holder() is None


def test_a_holder_that_comes_and_goes_is_never_nameless(place: Path) -> None:
    home = locate(place)
    seen: set[int] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            holder = home.holder()
            if holder is not None:
                seen.add(holder.pid)

    home.lock().close()
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(3000):
            with contextlib.suppress(RequestError):  # the watcher tries the lock too
                home.lock().close()
    finally:
        over.set()
        watcher.join()
    assert seen <= {os.getpid()}


@pytest.mark.parametrize(
    "kind",
    "nfs nfs4 cifs smb3 lustre gpfs beegfs afs ceph fuse.sshfs fuse.glusterfs fuse.ceph panfs wekafs smbfs".split(),  # noqa: SIM905
)
def test_network_filesystems_are_known(kind: str, tmp_path: Path) -> None:
    assert is_network(kind)
    mounts = [("/", "ext4"), (str(tmp_path), kind), (str(tmp_path / "local"), "xfs")]
    with pytest.raises(SiteError) as caught:
        require_local(tmp_path / "not" / "there", mounts)
    assert caught.value.code == "JRM-D17"
    assert kind in caught.value.message
    require_local(tmp_path / "local" / "x", mounts)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "apfs", "zfs", "fuseblk", "fuse.lxcfs"])
def test_local_filesystems_are_let_through(kind: str) -> None:
    assert not is_network(kind)


def test_the_nearest_and_uppermost_mount_counts() -> None:
    mounts = [("/", "ext4"), ("/home", "autofs"), ("/home", "nfs"), ("/homes", "xfs"), ("/home", "ext4")]
    assert filesystem_of(Path("/home/me"), mounts) == ("ext4", "/home")
    assert filesystem_of(Path("/homes/me"), mounts) == ("xfs", "/homes")
    assert filesystem_of(Path("/tmp"))[0], "the real table must name a type"


def test_every_refusal_has_a_hint(place: Path) -> None:
    for bad in (lambda: Home.locate("../x", {}), lambda: locate(place).socket("UP")):
        with pytest.raises(JrmError) as caught:
            bad()
        assert caught.value.hint


def test_a_private_file_is_whole_or_not_there_when_the_disk_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    target = tmp_path / "spec.json"
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    write_private(target, b"0123456789")
    assert target.read_bytes() == b"0123456789"

    room = iter([3, 3])

    def full(fd: int, data: bytes) -> int:
        if (left := next(room, 0)) == 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(fd, bytes(data[:left]))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space"):
        write_private(target, b"abcdefghijkl")
    assert target.read_bytes() == b"0123456789"
    assert os.listdir(tmp_path) == ["spec.json"]
