import posixpath
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.packages import names, paths
from haechi.errors import AppError

PARTS = st.sampled_from(["a", "..", ".", "", "b c", "가", "x\\..", "\\", "/", "C:", "~", "..."])


@given(st.one_of(st.text(max_size=40), st.lists(PARTS, max_size=8).map("/".join)))
def test_a_clean_path_stays_inside(name: str) -> None:
    try:
        path = paths.clean(name)
    except AppError:
        return
    assert not path.startswith("/")
    assert "\\" not in path
    assert ".." not in path.split("/")
    joined = posixpath.normpath(posixpath.join("/tree", path))
    assert joined == "/tree" or joined.startswith("/tree/")
    assert paths.clean(path) == path


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "a/c", "b/d", "a/c/e"]),
        st.lists(st.sampled_from(["..", "a", "b", "c", "d", "."]), max_size=5).map("/".join),
        max_size=5,
    ),
    st.sampled_from(["a", "b/d", "a/c/e", "a/c/../b"]),
)
def test_links_are_followed_as_the_kernel_does(
    workshop: Path, links: dict[str, str], path: str
) -> None:
    """Whatever `resolve` lets pass ends inside a real tree made of the same links."""
    try:
        for link in links:
            paths.resolve(link, links)
        where = paths.resolve(path, links)
    except AppError:
        return
    root = Path(tempfile.mkdtemp(dir=workshop))
    for link, target in links.items():
        place = root / link
        if any(
            str(parent.relative_to(root)) in links
            for parent in place.parents
            if parent != root and root in parent.parents
        ):
            return  # an entry behind a link is refused elsewhere
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    real = (root / path).resolve(strict=False)
    assert real == root.resolve() or root.resolve() in real.parents
    assert not where.startswith("..")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("person-detector", "person-detector"),
        ("Person_Detector", "person-detector"),
        ("  AI (v2)!.x ", "ai-v2-x"),
        ("사람-detector", "detector"),
        ("Café", "cafe"),
        ("---", "pkg-cb3f91d54e"),
    ],
)
def test_labels(name: str, label: str) -> None:
    assert names.label(name) == label


@given(st.text(min_size=1, max_size=200))
def test_every_name_gets_a_dns_label(name: str) -> None:
    label = names.label(name)
    assert 1 <= len(label) <= 63
    assert label == label.lower()
    assert not label.startswith("-")
    assert not label.endswith("-")
    assert label.replace("-", "").isascii()
    assert label.replace("-", "").isalnum()
    assert names.label(name) == label


@given(st.text(max_size=140))
def test_versions_are_tags_or_refused(text: str) -> None:
    try:
        assert names.version(text) == text
    except AppError:
        return
    assert text.isascii()
    assert 1 <= len(text) <= 128
