"""Links of all documents: the file is there, and so is its heading. And what README promises: its length, and a map to every document."""

import re
import subprocess
import urllib.parse

from stack import Failed

README_LINES = 150
REPOSITORY = "https://github.com/teams-pstn-exporter/teams-pstn-exporter"
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+(?:\([^()]*\))?)\)|<(https?://[^>\s]+)>")
FENCE = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)


def tracked(root, *patterns):
    """The files that git tracks, or would track after `git add`."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns], cwd=root, check=True, capture_output=True, text=True)
    return [root / name for name in sorted(set(listed.stdout.splitlines())) if (root / name).is_file()]


def check(root, documents):
    planted(root)
    checked, wrong = 0, []
    for path in tracked(root, "*.md"):
        for target in targets(path.read_text()):
            checked += 1
            if problem := broken(root, path, target):
                wrong.append(f"{path.relative_to(root)}: {target}: {problem}")
    for path in tracked(root):
        text = path.read_bytes().decode(errors="ignore")
        for name in re.findall(re.escape(REPOSITORY) + r"/(?:blob|tree)/main/([\w./%-]+)", text):
            # The name of a file, or of a folder if the rest is filled in elsewhere.
            name = name.split("%")[0]
            checked += 1
            if not (root / name).exists():
                wrong.append(f"{path.relative_to(root)}: {name} is not in the repository")
    if wrong:
        raise Failed("broken links:\n" + "\n".join(wrong))
    readme, *others = documents
    lines = len(readme.read_text().splitlines())
    if lines > README_LINES:
        raise Failed(f"README has {lines} lines, more than {README_LINES}")
    mapped = {(root / target.split("#")[0]).resolve() for target in targets(readme.read_text())}
    if missing := [path.name for path in others if path not in mapped]:
        raise Failed(f"README has no link to {missing}")
    print(f"{checked} links checked; README has {lines} lines and a link to each of {len(others)} documents")


def targets(text):
    return [one or other for one, other in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text)))]


def broken(root, path, target):
    """What is wrong with a link. External ones are checked by their form only."""
    url = urllib.parse.urlsplit(target)
    if url.scheme:
        local = url.hostname in ("localhost", "127.0.0.1")
        well_formed = url.hostname and (url.scheme == "https" and "." in url.hostname or local)
        return None if well_formed else "not a well-formed https URL"
    file = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
    if root not in file.parents or not file.exists():
        return "no such file"
    if url.fragment and url.fragment not in anchors(file.read_text()):
        return "no such heading"
    return None


def anchors(text):
    """The anchors of headings, as GitHub makes them."""
    found = []
    for heading in re.findall(r"^#{1,6} +(.+?) *$", FENCE.sub("", text), re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        repeated = sum(re.fullmatch(re.escape(slug) + r"(-\d+)?", one) is not None for one in found)
        found.append(f"{slug}-{repeated}" if repeated else slug)
    return found


def planted(root):
    """Broken links are found, or the check would prove nothing."""
    path = root / "docs" / "concepts.md"
    for target in ("missing.md", "concepts.md#missing", "#missing", "../../elsewhere", "http://example.com/", "https://nowhere/"):
        assert broken(root, path, target), target
    for target in ("entra.md", "entra.md#credentials", "#glossary", "https://example.com/", "http://localhost:9090/"):
        assert not broken(root, path, target), target
    assert targets("[a](b.md) `[c](d.md)` <https://e.example/>\n```sh\n[f](g.md)\n```\n") == ["b.md", "https://e.example/"]
