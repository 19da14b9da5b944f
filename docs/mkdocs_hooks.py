"""Hooks of MkDocs: the pages of the repository's root join the site, and links to them work."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT_PAGES = {
    "README.md": "project.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE",
}
"""File in the root of the repository to its name in the site; docs/README.md is the first page."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository's root."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(root / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links that are right in the repository and wrong in the site."""
    return with_links_of_site(markdown, page.file.src_uri)


def with_links_of_site(markdown: str, page: str) -> str:
    """Return a page with the links of the site.

    Args:
        markdown: the page's text.
        page: its path in the site.
    """
    depth = len(PurePosixPath(page).parents) - 1
    if page in ROOT_PAGES.values():
        markdown = re.sub(r"\]\(docs/", "](", markdown)
    outside = "" if page in ROOT_PAGES.values() else "../" * (depth + 1)
    for name, target in ROOT_PAGES.items():
        markdown = markdown.replace(f"]({outside}{name}", f"]({'../' * depth}{target}")
    return markdown
