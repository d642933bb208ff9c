"""Links between pages of the built site, and .rst files beside it: `python docs/check.py docs/_build/html`.

Sphinx finds broken references; what it takes as it stands is looked at here: links by file name, anchors, and the .rst files
that are no pages. Nothing is fetched: a link to another host must only be well-formed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docutils.core import publish_doctree
from docutils.utils import SystemMessage

HOME = Path(__file__).resolve().parent.parent
#: Level 2 is a warning; from there on docutils raises instead of going on.
WARNING = 2


def complaint(path: Path) -> str | None:
    """What docutils has against the file; None when it is fine."""
    settings = {"halt_level": WARNING, "report_level": 5, "input_encoding": "utf-8", "_disable_config": True}
    try:
        publish_doctree(path.read_text("utf-8"), source_path=str(path), settings_overrides=settings)
    except SystemMessage as message:
        return str(message)
    return None


class Page(HTMLParser):
    """The links of one page and the anchors that others may name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)
            elif value and ((tag == "a" and name == "href") or (tag == "img" and name == "src")):
                self.links.append(value)


def dead_links(site: Path) -> list[str]:
    """One sentence for each link of the site that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    complaints = []
    for path, page in pages.items():
        if "_modules" in path.parts:
            continue  # Sources point back at what the reference may leave out.
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if not (parts.scheme in ("http", "https", "mailto") and (parts.netloc or parts.path)):
                    complaints.append(f"{path.relative_to(site.resolve())}: {link} is no address")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                complaints.append(f"{path.relative_to(site.resolve())}: {link} leads to no file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                complaints.append(f"{path.relative_to(site.resolve())}: {link} leads to no part of that page")
    return complaints


def main() -> int:
    """Print each fault; 1 when there is one."""
    paths = sorted([*HOME.glob("*.rst"), *HOME.glob("examples/**/*.rst")])
    complaints = [text for text in map(complaint, paths) if text]
    for site in map(Path, sys.argv[1:]):
        complaints += dead_links(site)
    sys.stdout.write("\n".join([*complaints, f"{len(complaints)} faults in files and links\n"]))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
