"""The words for what an inspection notes without refusing anything."""

from typing import Final

from haechi.domains.packages.inspection import Note
from haechi.errors import Language, Text

TEXTS: Final = {
    "exposes_ignored": Text(
        "EXPOSE {ports}은(는) 쓰이지 않습니다. 패키지는 포트를 열지 않습니다.",
        "EXPOSE {ports} has no effect: packages open no ports.",
    ),
    "syntax_line": Text(
        "'# syntax={image}' 줄은 외부에서 내려받지 않도록 빌드할 때 처리됩니다.",
        "The line `# syntax={image}` is handled at build time so that nothing is fetched.",
    ),
    "junk_ignored": Text(
        "운영체제가 남긴 파일 {count}개를 무시했습니다.",
        "{count} files left by an operating system were ignored.",
    ),
    "yaml_ignored": Text(
        "YAML 파일 {count}개는 배포에 쓰이지 않습니다.",
        "{count} YAML files are not used for deploying.",
    ),
    "context_is_root": Text(
        "복사 경로에 폴더 이름이 들어 있어 zip의 맨 위를 빌드 기준으로 씁니다.",
        "Its COPY paths include the folder's name, so the zip's root is the build context.",
    ),
    "no_command": Text(
        "CMD나 ENTRYPOINT가 없어 기본 이미지의 명령이 실행됩니다.",
        "There is no CMD or ENTRYPOINT: the base image's command will run.",
    ),
}


def text_of(note: Note, language: Language) -> str:
    text = TEXTS.get(note.code)
    return note.code if text is None else text.render(language, note.data)
