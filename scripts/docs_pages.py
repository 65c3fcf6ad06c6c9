"""What the site of ``make docs`` has beside docs/: a hook of MkDocs.

The README and its like lie in the project's folder, where people look for them, and link to each
other and to files there. Here they become pages, every link that leads to a page becomes one inside
the site, and files that are linked to come along.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    'README.md': 'index.md',
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'SECURITY.md': 'security.md',
    'nvs_ros/zero123/embedded/README.md': 'model_card.md',
}
"""File of the project -> page of the site."""
SOURCES = {page: file for file, page in PAGES.items()}
FILES = 'project'
"""Folder of the site for other files of the project."""
LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)')


def place(target: str) -> str:
    """Where a file of the project is in the site; both relative to their roots."""
    if target in PAGES:
        return PAGES[target]
    return target.removeprefix('docs/') if target.startswith('docs/') else f'{FILES}/{target}'


def source_of(page: str) -> str:
    """The file of the project that a page is made of."""
    return SOURCES.get(page, f'docs/{page}')


def targets_in(source: str) -> list[str]:
    """Files of the project that a Markdown file links to."""
    links = LINK.findall((ROOT / source).read_text(encoding='utf-8'))
    return [posixpath.normpath(posixpath.join(posixpath.dirname(source), link)) for link in links]


def on_files(files: Files, config, **_) -> Files:
    """Add the pages, and the files that any page links to."""
    pages = [*PAGES.values(), *(file.src_uri for file in files.documentation_pages())]
    for source, page in PAGES.items():
        content = (ROOT / source).read_text(encoding='utf-8')
        files.append(File.generated(config, page, content=content))
    targets = {target for page in pages for target in targets_in(source_of(page))}
    for target in sorted(targets - set(PAGES)):
        if not target.startswith('docs/') and (ROOT / target).is_file():
            file = File.generated(config, place(target), abs_src_path=str(ROOT / target))
            files.append(file)
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Turn links to files of the project into links to where they are in the site."""
    source, here = source_of(page.file.src_uri), posixpath.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return posixpath.relpath(place(target), here or '.')

    return LINK.sub(moved, markdown)


def on_page_content(html: str, **_) -> str:
    """Docstrings name each other in Sphinx's way, which Markdown would show as it is written."""
    html = re.sub(
        r':(?:attr|class|data|func|meth|mod):<code>~?([^<]+)</code>', r'<code>\1</code>', html
    )
    return html.replace('::</p>', ':</p>')
