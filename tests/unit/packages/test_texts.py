"""Every error says the same in both languages, with the same facts."""

import string

import pytest

from haechi.domains.inventory import model as inventory_model
from haechi.domains.packages import notes, problems
from haechi.errors import Text, catalogue


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


TEXTS = [
    (code, part, getattr(error, part))
    for code, error in catalogue().items()
    if error.__module__ in {problems.__name__, inventory_model.__name__}
    for part in ("title", "detail", "remedy")
] + [(code, "note", text) for code, text in notes.TEXTS.items()]


@pytest.mark.parametrize(("code", "part", "text"), TEXTS, ids=lambda value: str(value)[:40])
def test_both_languages(code: str, part: str, text: Text) -> None:
    assert text.ko
    assert text.en
    named = placeholders(text.en) ^ placeholders(text.ko)
    assert named <= {"kind"}, f"{code} {part}"
    assert any("가" <= char <= "힣" for char in text.ko)
