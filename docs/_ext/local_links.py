"""Links of the built site to its own pages, files and anchors: one that leads nowhere fails the build."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ASIDE = ("_static", "_modules")
"""Folders of what is not written here."""


class Page(HTMLParser):
    """What can be linked to on a page, and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str | None] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        self.links += [link for key in ("href", "src") if (link := found.get(key))]


def broken(site: Path) -> list[str]:
    """Each link without its target, as "page: link"."""
    site = site.resolve()
    paths = [path for path in site.rglob("*.html") if path.relative_to(site).parts[0] not in ASIDE]
    pages = {path: Page(path) for path in paths}
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def check(app: Sphinx, exception: Exception | None) -> None:
    """Of a build that went well."""
    if exception is None and app.builder.name == "html" and (found := broken(Path(app.outdir))):
        raise ExtensionError("links to nowhere:\n" + "\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True}
