"""What MkDocs does for this site beside rendering its pages (`make docs`).

- Links from a page to a file of the repository outside `docs/` lead to a page that shows the file.
- Comments such as `<!-- code: asyncrl/algorithms/a3c.py A3C.loss -->` are replaced by what they name (directives.py), so
  that code, options, presets and results on a page cannot go stale. On GitHub they are invisible.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from directives import expand
from mkdocs.structure.files import File, Files, InclusionLevel
from sources import FOLDERS, PAGES, as_page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")
DRAWING = re.compile(r"^!\[([^\]]*)\]\((?:\.\./)*(assets/drawings/[\w-]+\.svg)\)$", re.M)
FENCE = re.compile(r"^```.*?^```[ \t]*$", re.M | re.S)

_origins: dict[str, str] = {}
"""Path in the repository of each page, by its path in the site."""


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every file of the repository that a page links to."""
    _origins.clear()
    waiting = [(file.src_uri, f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    for source, page in PAGES.items():
        if source != "README.md":
            waiting.append((page, source, (ROOT / source).read_text(encoding="utf-8")))
            files.append(File.generated(config, page, content=waiting[-1][2]))
    while waiting:
        page, origin, text = waiting.pop()
        _origins[page] = origin
        for path in sorted(linked(expand(text), origin)):
            target = site_path(path)
            if files.get_file_from_path(target) is not None or not (ROOT / path).exists():
                continue
            if target.endswith(".md"):
                content = as_page(ROOT / path)
                files.append(File.generated(config, target, content=content, inclusion=InclusionLevel.NOT_IN_NAV))
                waiting.append((target, path, ""))
            else:
                files.append(File.generated(config, target, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Expand the directives of a page and rewrite its links."""
    uri = page.file.src_uri
    text = DRAWING.sub(lambda found: figure(found[1], ROOT / "docs" / found[2]), expand(markdown))
    return outside_fences(text, lambda part: LINK.sub(lambda link: rewritten(link, uri), part))


def figure(caption: str, path: Path) -> str:
    """A drawing as part of the page, so that it follows the page's light or dark theme."""
    svg = re.sub(r"<style>.*?</style>\s*", "", path.read_text(encoding="utf-8"), flags=re.S)
    return f'<figure class="drawing">{"".join(svg.splitlines())}<figcaption>{caption}</figcaption></figure>'


def rewritten(link: re.Match[str], page: str) -> str:
    """A Markdown link of `page` as it is in the site."""
    path, anchor, fragment = link[2].partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link[0]
    target = site_path(posixpath.normpath(posixpath.join(posixpath.dirname(_origins[page]), path)))
    relative = posixpath.relpath(target, posixpath.dirname(page) or ".")
    return f"{link[1]}({relative}{anchor}{fragment})"


def linked(text: str, origin: str) -> set[str]:
    """Paths in the repository of the files outside `docs/` that a page links to."""
    found: set[str] = set()

    def note(part: str) -> str:
        for link in LINK.finditer(part):
            path = link[2].partition("#")[0]
            if path and "://" not in path and not path.startswith("mailto:"):
                found.add(posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)))
        return part

    outside_fences(text, note)
    return {path for path in found if not path.startswith("docs/") and path not in {*PAGES, *FOLDERS}}


def site_path(path: str) -> str:
    """The page that shows a file of the repository."""
    if path in FOLDERS:
        return FOLDERS[path]
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if Path(path).suffix in {".png", ".gif", ".svg"}:
        return f"source/{path}"
    return f"source/{path}.md"


def outside_fences(text: str, change: Any) -> str:
    """`text` with `change` applied to everything but its code blocks."""
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])
