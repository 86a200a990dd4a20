"""What the golden files cannot say: refusals, names, expansion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.builds.dockerfile import expand, rewrite
from haechi.domains.builds.images import is_reference, is_tag, normalise, same_platform
from haechi.domains.builds.model import BadDockerfile
from haechi.domains.builds.site_files import site_files, with_site_files, without_mount


def read(text, **base_map):
    return rewrite(
        text, base_map=base_map, build_platform="linux/amd64", target_platform="linux/arm64"
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "no FROM"),
        ("# only\nRUN x\n", 1, "no FROM"),
        ("\nARG A\nFROM $A\n", 3, "empty"),
        ("FROM\n", 1, "no image"),
        ("FROM --platform=linux/amd64\n", 1, "no image"),
        ("FROM a\nRUN <<EOF\nnever ends\n", 2, "heredoc"),
        ('{"syntax": "evil/frontend"}\n', 1, "JSON"),
        ("# note\nFROM ab\\\nc\n", 2, "two lines"),
    ],
)
def test_what_is_no_dockerfile_is_refused_with_its_line(text, line, words):
    with pytest.raises(BadDockerfile) as caught:
        read(text, abc="x:1")
    assert caught.value.data["line"] == line
    assert words in caught.value.data["problem"]


@pytest.mark.parametrize(
    "head",
    [
        "# syntax=evil/x",
        "#syntax = evil/x",
        "# SYNTAX=evil/x",
        "// syntax=evil/x",
        "#!/usr/bin/env x\n# syntax=evil/x",
        "\n\n# syntax=evil/x",
        "# escape=`\n# syntax=evil/x",
        "\ufeff# syntax=evil/x",
    ],
)
def test_no_form_of_the_syntax_directive_survives(head):
    found = read(f"{head}\nFROM scratch\n")
    assert "evil" not in found.text
    assert found.syntax == "evil/x"


def test_an_escape_directive_behind_a_comment_is_none():
    found = read("# note\n# escape=`\nFROM a\nRUN x \\\n  FROM b\n")
    assert [use.source for use in found.bases] == ["a"]


def test_stage_names_win_over_images_of_the_same_name():
    found = read("FROM a AS python\nFROM python\n", python="other:1")
    assert found.text == "FROM a AS python\nFROM python\n"
    assert [use.source for use in found.bases] == ["a"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$A-$B", "1-2"),
        ("${A}x${NONE:-d}${A:+yes}${NONE:+no}", "1xdyes"),
        ("${NONE:-${B}}", "2"),
        ("${NONE:-a${NONE:-$B}}c", "a2c"),
        ("${A", "1"),
        ("$", "$"),
        (r"\$A", "$A"),
        ("$NONE", ""),
    ],
)
def test_expansion(word, expected):
    assert expand(word, {"A": "1", "B": "2"}) == expected


@given(st.text(alphabet="FROMARGCPY \\\n\t#<-=$:{}/.\"'abc", max_size=200))
def test_nothing_breaks_it(text):
    try:
        found = read(text, abc="x:1")
    except BadDockerfile:
        return
    assert found.text.count("\n") == text.count("\n")
    with_site_files(found.text, site_files(pip_index_url="x", ca_pem=b"y"))


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3", "docker.io/library/python:3"),
        ("a/b", "docker.io/a/b:latest"),
        ("index.docker.io/a/b:1", "docker.io/a/b:1"),
        ("localhost/a", "localhost/a:latest"),
        ("host:5000/a", "host:5000/a:latest"),
        ("python@sha256:" + "0" * 64, "docker.io/library/python@sha256:" + "0" * 64),
    ],
)
def test_names(short, full):
    assert normalise(short) == full
    assert normalise(full) == full


def test_what_may_be_a_reference_or_a_tag():
    assert is_reference("registry.test:5000/a/b-c:1.0@sha256:" + "a" * 64)
    assert not any(map(is_reference, ["", "A", "a b", "a:", "-a", "a//b", "a:1;rm", "a" * 400]))
    assert is_tag("1.0_x")
    assert not any(map(is_tag, ["", ".1", "a/b", "가", "x" * 129]))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/arm/v7", "linux/arm/v6", False),
    ],
)
def test_platforms(one, other, same):
    assert same_platform(one, other) is same


def test_the_mount_is_hidden_in_log_lines():
    files = site_files(pip_index_url="https://u:p@index.test", ca_pem=b"")
    line = with_site_files("FROM a\nRUN pip install x", files).splitlines()[-1]
    assert "--mount" in line
    assert without_mount(f"#5 [2/2] {line}") == "#5 [2/2] RUN pip install x"
    assert "u:p@" not in line


def test_without_site_settings_nothing_is_added():
    files = site_files(pip_index_url="", ca_pem=b"")
    assert with_site_files("FROM a\nRUN x\n", files) == "FROM a\nRUN x\n"


GROWING = "ARG A0=aaaaaaaaaa\n" + "".join(f"ARG A{n + 1}=$A{n}$A{n}\n" for n in range(60))


@pytest.mark.parametrize(
    "text",
    [GROWING + "FROM $A60\n", "ARG A=" + "${A:-" * 40_000 + "\nFROM $A\n", "FROM " + "a" * 5000],
    ids=["growing", "nested", "long"],
)
def test_names_that_would_never_end_are_refused(text):
    with pytest.raises(BadDockerfile):
        read(text)


@pytest.mark.parametrize("head", ["ARG NOTE=" + "x" * 5000, "# note=x" + " " * 200_000 + "y"])
def test_long_lines_that_name_no_image_harm_nobody(head):
    assert read(f"{head}\nFROM a\n").bases[0].source == "a"
