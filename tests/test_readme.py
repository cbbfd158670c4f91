"""Both READMEs, the roadmap and the folders agree, whatever is ticked."""

import re
from pathlib import Path

import pytest

from utils import catalogue
from utils.paths import ROOT

READMES = {"en": ROOT / "README.md", "ko": ROOT / "README.ko.md"}
BOX = re.compile(r"^[-*+] \[[ xX]\] ")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def roadmap(language: str) -> list[tuple[str, list[str], int]]:
    """Per step: its number, the links in order, how many planned items."""
    inside = text(READMES[language]).split("<!-- roadmap:start -->")[1].split("<!-- roadmap:end -->")[0]
    steps = []
    for line in inside.splitlines():
        if line.startswith("### "):
            steps.append((re.search(r"\d", line).group(), [], 0))
        elif BOX.match(line):
            steps[-1][1].append(re.search(r"\]\(([^)]+)\)", BOX.sub("", line)).group(1))
        elif line.startswith("- "):
            number, links, planned = steps[-1]
            assert "](" not in line, f"a link without a box: {line}"
            steps[-1] = (number, links, planned + 1)
    return steps


def test_the_roadmaps_are_the_same_in_both_languages():
    assert roadmap("en") == roadmap("ko")
    assert [number for number, _, _ in roadmap("en")] == list("123456")


def test_the_roadmap_is_the_same_after_ticks():
    for language, path in READMES.items():
        ticked = text(path).replace("- [ ] ", "- [x] ")
        boxes = [line for line in ticked.splitlines() if BOX.match(line)]
        assert len(boxes) == sum(len(links) for _, links, _ in roadmap(language)), "a box outside the roadmap, or none in it"


def test_everything_that_can_be_run_is_on_the_roadmap():
    linked = {link for _, links, _ in roadmap("en") for link in links}
    lessons = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("0[1-8]_*/*.py") if path.name != "__init__.py"}
    projects = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in ROOT.glob("09_projects/*/train.py")}
    assert linked == lessons | projects


def test_the_lessons_are_in_the_order_of_their_folders():
    folders = [link.split("/")[0] for _, links, _ in roadmap("en") for link in links if not link.startswith("09_")]
    assert folders == sorted(folders)


PAGES = [page for where in ("*.md", "*/README.md", "0*/*/README.md", "notes/**/*.md") for page in sorted(ROOT.glob(where))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_or_picture_is_broken(page):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text(page), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'<img[^>]+src="([^"]+)"', prose)
    for target in targets:
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), (
                f"{page.relative_to(ROOT)} points at {target}, which is not there"
            )


@pytest.mark.parametrize("what", ["headings", "tables", "commands", "pictures"])
def test_the_languages_say_the_same(what):
    def shape(language: str):
        page = text(READMES[language])
        return {
            "headings": [line.split(" ")[0] for line in page.splitlines() if re.match(r"#+ ", line)],
            "tables": sum(line.startswith("|") for line in page.splitlines()),
            "commands": [
                line.split("#")[0].strip() for block in re.findall(r"```\n(.*?)```", page, re.S) for line in block.splitlines()
            ],
            "pictures": re.findall(r"!\[[^]]*\]\(([^)]+)\)", page),
        }[what]

    assert shape("en") == shape("ko")


def test_the_measured_numbers_are_the_same_in_both_languages():
    def percentages(language: str) -> list[str]:
        return re.findall(
            r"\d+\.\d+", text(READMES[language]).split("<!-- results:start -->")[1].split("<!-- results:end -->")[0]
        )

    assert percentages("en") == percentages("ko")
    assert percentages("en")


@pytest.mark.parametrize("stage", sorted(path.parent.name for path in ROOT.glob("0[1-8]_*/exercises.py")))
def test_a_stage_with_lessons_has_notes_in_both_languages(stage):
    headings = {
        language: [
            line.split(" ")[0] for line in text(ROOT / "notes" / language / f"{stage}.md").splitlines() if re.match(r"#+ ", line)
        ]
        for language in READMES
    }
    assert headings["en"] == headings["ko"]
    for language in READMES:
        assert f"notes/{language}/{stage}.md" in text(READMES[language]) + text(ROOT / "notes" / "README.md") + "".join(
            text(path) for path in ROOT.glob(f"{stage}/*.py")
        )


def test_every_data_set_is_in_the_catalogue_page():
    page = text(ROOT / "datasets" / "README.md")
    for name, entry in catalogue.CATALOGUE.items():
        assert f"`{name}`" in page
        assert entry.licence in page
