"""Writes the claims into ``threat_model.md``: a table, and each claim in full with links to code, tests and mutants.

What lies between the two marks is the registry's; the rest of the file is written by hand. A checkout is needed: links
lead to its tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from securefl.audit.registry import Claim, Mutant
from securefl.errors import SecureFLError

FILE = "threat_model.md"
BEGIN = "<!-- claims: written by `securefl audit threat-model --write` -->"
END = "<!-- claims: end -->"
_BEHAVIOUR = {
    "none": "Accidents only.",
    "semi-honest": "Semi-honest: they follow the program and remember everything.",
    "malicious": "Malicious: they do as they like.",
}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def section(themes: dict[str, tuple[Claim, ...]], mutants: dict[str, Mutant], root: Path) -> str:
    """The text between the marks.

    Args:
        themes: the claims by the theme that they stand under.
        root: of the checkout.

    Raises:
        SecureFLError: a function or mutant of a claim is in no file of the checkout.
    """
    count = sum(map(len, themes.values()))
    lines = [
        f"{count} claims, {len(mutants)} mutants.",
        "",
        "| claim | in one sentence | shown by |",
        "| --- | --- | --- |",
    ]
    for claims in themes.values():
        lines += [f"| [{c.id}](#{c.id}) | {_cell(c.statement)} | {', '.join(c.how)} |" for c in claims]
    for theme, claims in themes.items():
        lines += ["", f"### {theme}"]
        for claim in claims:
            lines += ["", f"#### {claim.id}", "", *_in_full(claim, mutants, root)]
    return "\n".join(lines)


def _in_full(claim: Claim, mutants: dict[str, Mutant], root: Path) -> Iterator[str]:
    together = (
        f" {_listed(claim.colluding).capitalize()} may work together." if len(claim.colluding) > 1 else ""
    )
    yield claim.statement
    yield ""
    yield f"- **Against**: {claim.adversary}. {_BEHAVIOUR[claim.behaviour]}{together}"
    yield f"- **Enforced in**: {', '.join(f'[{_short(w)}]({_file_of(w, root)})' for w in claim.where)}"
    if claim.tested:
        # The tests stand below, with their files.
        by_test = (f"{_short(function)} ({_told(test)})" for function, test in claim.tested.items())
        yield f"- **Not seen in an attack, left to a test**: {', '.join(by_test)}"
    error = f" {claim.error}" if claim.error else ""
    yield f"- **Shown by** {', '.join(claim.how)}.{error}"
    for shown in claim.shown:
        file, _, name = shown.partition("::")
        yield f"  - [{_told(name)}]({file})"
    yield "- **Mutants**:"
    for name in claim.mutants:
        if name not in mutants:
            raise SecureFLError(f"The claim {claim.id} names the mutant {name}, which there is not.")
        mutant = mutants[name]
        yield f"  - [{name}]({_file_of(mutant.module, root)}): {mutant.changed}"
    yield f"- **Not claimed**: {claim.limits}"


def replaced(text: str, made: str) -> str:
    """The file's text with another section between the marks.

    Raises:
        SecureFLError: a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SecureFLError(f"{FILE} lacks the marks between which the claims stand: {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def broken_links(text: str, root: Path) -> list[str]:
    """The links of a file in ``root`` that lead nowhere: files that are not there, headings that no file has."""
    broken = []
    for link in _LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = link.partition("#")
        target = root / file if file else None
        if (target is not None and not target.exists()) or (
            anchor and anchor not in anchors(text if target is None else target.read_text())
        ):
            broken.append(link)
    return broken


def anchors(text: str) -> set[str]:
    """The anchors that the headings of a Markdown text have."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def checkout(start: Path) -> Path:
    """The checkout that a folder is in.

    Raises:
        SecureFLError: it is in none.
    """
    for folder in (start, *start.parents):
        if (folder / FILE).exists() and (folder / "securefl").is_dir():
            return folder
    raise SecureFLError(f"There is no {FILE} here: run this in a checkout of securefl.")


def _file_of(dotted: str, root: Path) -> str:
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        path = Path(*parts[:end])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if (root / file).is_file():
                return file.as_posix()
    raise SecureFLError(f"{dotted} is in no file of the checkout.")


def _short(dotted: str) -> str:
    names = dotted.split(".")
    start = next((i for i, name in enumerate(names) if name[:1].isupper()), len(names) - 1)
    return f"`{'.'.join(names[max(0, start - 1) :])}`"


def _told(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
