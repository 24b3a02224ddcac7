"""A cohort in an object store: a real S3 server, one that fails, and one that stalls."""

import http.server
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from spinmark_data.cohort import location
from spinmark_data.cohort.location import locate
from spinmark_data.cohort.lock import sole_writer
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.verify import verify
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.run import ingest

pytest.importorskip("s3fs")
server_module = pytest.importorskip("moto.server")
# botocore and moto call what Python deprecates; nothing of it is ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server():
    running = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch) -> str:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket{time.monotonic_ns()}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


def config(folder: Path, **changes) -> IngestConfig:
    return IngestConfig(workers=1, table_map=folder / "map.csv", **changes)


def voxels(cohort: Cohort) -> np.ndarray:
    return cohort.read("DESS", np.arange(len(cohort.scans("DESS"))))


def test_a_cohort_in_s3_is_the_cohort_on_disk(tmp_path: Path, write_release, bucket: str) -> None:
    release = write_release(tmp_path, ("a", "b"))
    for out in (tmp_path / "c", f"{bucket}/deep/c"):
        ingest(release, out, config(tmp_path))
    here, there = Cohort.open(tmp_path / "c"), Cohort.open(f"{bucket}/deep/c")
    assert here.hash == there.hash
    assert np.array_equal(voxels(here), voxels(there))
    assert here.scans("DESS").equals(there.scans("DESS"))
    assert here.table("flow").equals(there.table("flow"))
    assert np.array_equal(
        here.crop("DESS", 1, (1, 2, 3), (2, 3, 3)), voxels(there)[1, 1:3, 2:5, 3:6]
    )
    lazy = there.images("DESS").sel(subject_id="b")
    assert np.array_equal(lazy["volume"].values, voxels(here)[2:])
    local = {n: (tmp_path / "c" / n).read_bytes() for n in locate(tmp_path / "c").names()}
    remote = {n: locate(f"{bucket}/deep/c").read(n) for n in locate(f"{bucket}/deep/c").names()}
    assert local == remote
    with pytest.raises(InputError, match="is no local folder"):
        there.path  # noqa: B018 - the access itself is what fails
    with pytest.raises(InputError, match="takes local shards"):
        Cohort.open(f"{bucket}/deep/c", reader="direct").read("DESS", np.array([0]))


def test_a_generation_is_added_and_a_flipped_byte_found_in_s3(
    tmp_path: Path, write_release, bucket: str
) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, f"{bucket}/c", config(tmp_path))
    first = Cohort.open(f"{bucket}/c")
    before = voxels(first)
    write_release(tmp_path, ("b",), ("V01",))
    assert ingest(release, f"{bucket}/c", config(tmp_path), append=True).generation == 2
    assert np.array_equal(voxels(first), before)
    assert len(voxels(Cohort.open(f"{bucket}/c"))) == 4
    assert verify(f"{bucket}/c").problems == []
    folder, name = locate(f"{bucket}/c"), "images.zarr/DESS/volume/c/3/0/0/0"
    content = bytearray(folder.read(name))
    content[7] ^= 4
    folder.write(name, bytes(content))
    assert [problem[0] for problem in verify(f"{bucket}/c").problems] == [name]


def test_work_that_was_cut_short_in_s3_resumes(
    tmp_path: Path, write_release, bucket: str, monkeypatch
) -> None:
    from spinmark_data.ingest import staging

    release = write_release(tmp_path, ("a", "b"))
    stage, calls = staging.stage, []

    def killed(*args):
        calls.append(args[-1].name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return stage(*args)

    monkeypatch.setattr(staging, "stage", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest(release, f"{bucket}/c", config(tmp_path))
    ingest(release, f"{bucket}/c", config(tmp_path))
    assert len(calls) == 5  # Two done, one cut short and done again, one left.
    ingest(release, tmp_path / "c", config(tmp_path))
    assert Cohort.open(tmp_path / "c").hash == Cohort.open(f"{bucket}/c").hash
    assert not [name for name in locate(f"{bucket}/c").names() if name.startswith(".")]


def test_of_two_writers_in_s3_one_is_refused(tmp_path: Path, write_release, bucket: str) -> None:
    release = write_release(tmp_path, ("a",))
    with (
        sole_writer(locate(f"{bucket}/c")),
        pytest.raises(InputError, match=rf"another process is writing it .*{os.getpid()}"),
    ):
        ingest(release, f"{bucket}/c", config(tmp_path))
    assert ingest(release, f"{bucket}/c", config(tmp_path)).scans == 2


class Unreliable(http.server.ThreadingHTTPServer):
    """Hands requests on to a server, but for those that it is told to fail or to sit on."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        self.upstream, self.failures, self.stalls, self.asked = upstream, 0, 0, 0
        super().__init__(("127.0.0.1", 0), Relay)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Relay(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def relay(self) -> None:
        server = self.server
        body = self.body()
        server.asked += 1
        if server.stalls > 0:
            server.stalls -= 1
            time.sleep(6)
            self.close_connection = True
            return
        if server.failures > 0:
            server.failures -= 1
            self.answer(500, b"<Error><Code>InternalError</Code></Error>", {})
            return
        hop = ("transfer-encoding", "expect", "connection")
        kept = {name: value for name, value in self.headers.items() if name.lower() not in hop}
        kept.setdefault("Content-Type", "application/octet-stream")  # urllib's own is a form's.
        request = urllib.request.Request(
            server.upstream + self.path, data=body, headers=kept, method=self.command
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                self.answer(reply.status, reply.read(), dict(reply.headers))
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read(), dict(error.headers))

    def body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding") != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length) if length else None
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = relay

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            known = name.lower() in ("content-length", "transfer-encoding", "connection")
            if not known or (self.command == "HEAD" and name.lower() == "content-length"):
                self.send_header(name, value)
        if self.command != "HEAD" or "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def unreliable(server: str, bucket: str, monkeypatch):
    import s3fs

    proxy = Unreliable(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    quick = {"connect_timeout": 2, "read_timeout": 1, "retries": {"max_attempts": 2}}
    monkeypatch.setattr(location, "_S3_OPTIONS", {"config_kwargs": quick})
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    proxy.shutdown()
    proxy.server_close()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("fault", ["failures", "stalls"])
def test_a_store_that_falters_is_asked_again(
    unreliable: Unreliable, bucket: str, fault: str
) -> None:
    folder = locate(f"{bucket}/c")
    setattr(unreliable, fault, 1)
    folder.write("x", b"1")
    setattr(unreliable, fault, 1)
    assert folder.read("x") == b"1"
    assert unreliable.asked >= 4


def test_a_store_that_never_answers_is_named_and_the_work_resumes(
    tmp_path: Path, write_release, unreliable: Unreliable, bucket: str
) -> None:
    release = write_release(tmp_path, ("a",))
    unreliable.failures = 10**6
    with pytest.raises(InputError, match=rf"{bucket}/c/.*failed .*the store was asked again"):
        ingest(release, f"{bucket}/c", config(tmp_path))
    unreliable.failures = 0
    assert ingest(release, f"{bucket}/c", config(tmp_path)).scans == 2
    cohort = Cohort.open(f"{bucket}/c")
    unreliable.failures = 10**6
    with pytest.raises(InputError, match=bucket.removeprefix("s3://")):
        cohort.read("DESS", np.array([0]))


def test_a_store_that_fails_is_not_a_store_without_the_cohort(
    tmp_path: Path, write_release, unreliable: Unreliable, bucket: str
) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, f"{bucket}/c", config(tmp_path))
    unreliable.failures = 10**6
    with pytest.raises(InputError, match="looking for it failed"):
        locate(f"{bucket}/c").exists("cohort.json")
    unreliable.failures = 0
    # The claim is stored, then nothing answers: the next call says what stands in the way.

    def write_and_fail() -> None:
        with sole_writer(locate(f"{bucket}/c")):
            unreliable.failures = 10**6
            locate(f"{bucket}/c").read("cohort.json")

    with pytest.raises(InputError, match=r"then remove s3://.*/\.writer\.json first"):
        write_and_fail()
    unreliable.failures = 0
    locate(f"{bucket}/c").remove(".writer.json")
    assert ingest(release, f"{bucket}/c", config(tmp_path), append=True).generation == 1


def test_nobody_at_the_address(monkeypatch, bucket: str) -> None:
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    quick = {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 1}}
    monkeypatch.setattr(location, "_S3_OPTIONS", {"config_kwargs": quick})
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=rf"{bucket}/c/cohort.json: reading it failed"):
        Cohort.open(f"{bucket}/c")


def test_memory_is_a_store_too(tmp_path: Path, write_release) -> None:
    release = write_release(tmp_path, ("a",))
    ingest(release, "memory://here/c", config(tmp_path))
    assert Cohort.open(Path("memory://here/c")).scans("DESS")["subject_id"].tolist() == ["a", "a"]


def test_a_client_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match=r"oci://x/c: .*ocifs"):
        locate("oci://x/c")
    with pytest.raises(InputError, match=r"s33://x/c: Protocol not known"):
        locate("s33://x/c")
    assert locate("file:///data/c").local == Path("/data/c")
    assert locate(Path("s3://bucket/c")).url == "s3://bucket/c"
