"""Everything that can be wrong with a package, one error class each, so that every problem has a
documented code and says in both languages what to do. Several at once travel in PackageRefused.
"""

from collections.abc import Sequence
from typing import Final

from haechi.errors import AppError, Conflict, Invalid, Language, ManyProblems, Text

MAX_SHOWN: Final = 100


class PackageProblem(Invalid):
    """One thing wrong with a package; shows as a list of one (`data.problems`)."""

    def problem(self, language: Language) -> dict[str, object]:
        document = super().problem(language)
        if not self.code:
            return document
        part = {key: document[key] for key in ("code", "detail", "remedy")}
        part["path"] = self.data.get("path")
        return {**document, "data": {**self.data, "problems": [part]}}


class PackageRefused(ManyProblems):
    """Nothing was kept or unpacked. `data.problems` has every problem with its own code."""

    code = "packages.refused"
    detail = Text(
        "패키지에 문제가 {count}개 있어 받지 않았습니다.",
        "The package has {count} problems and was not taken.",
    )
    remedy = Text(
        "모두 고친 뒤 다시 올리세요. 'haechi package check'로 미리 확인할 수 있습니다.",
        "Correct them all and upload it again; `haechi package check` shows them beforehand.",
    )


def refuse(problems: Sequence[AppError]) -> None:
    """Raise what there is: nothing, the only problem, or all of them together."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        refused = PackageRefused.of(problems[:MAX_SHOWN])
        refused.data["count"] = len(problems)
        raise refused


# --- the zip as a file


class NotAZip(PackageProblem):
    code = "packages.not_a_zip"
    detail = Text("zip 파일이 아닙니다.", "This is not a zip file.")
    remedy = Text("패키지 폴더를 zip으로 압축해 올리세요.", "Zip the package's folder.")


class Truncated(PackageProblem):
    code = "packages.truncated"
    detail = Text(
        "zip 파일이 잘렸거나 손상되었습니다 ({reason}).",
        "The zip file is cut off or damaged ({reason}).",
    )
    remedy = Text("다시 압축해 올리세요.", "Make the zip anew and upload it again.")


class Encrypted(PackageProblem):
    code = "packages.encrypted"
    detail = Text(
        "암호가 걸린 파일이 {count}개 있습니다 (예: {path}).",
        "{count} files are encrypted (for example {path}).",
    )
    remedy = Text("암호 없이 압축하세요.", "Zip it without a password.")


class UnknownCompression(PackageProblem):
    code = "packages.unknown_compression"
    detail = Text(
        "지원하지 않는 압축 방식({method})을 쓴 파일이 {count}개 있습니다 (예: {path}).",
        "{count} files use the unsupported compression {method} (for example {path}).",
    )
    remedy = Text("일반 zip(deflate) 방식으로 압축하세요.", "Zip it in the ordinary way (deflate).")


class TooManyFiles(PackageProblem):
    code = "packages.too_many_files"
    detail = Text("파일이 {limit}개보다 많습니다.", "It has more than {limit} entries.")
    remedy = Text(
        "필요 없는 파일을 빼거나 packages.max_files 설정을 늘리세요.",
        "Leave out what is not needed, or raise the setting packages.max_files.",
    )


class TooMuchUnpacked(PackageProblem):
    code = "packages.too_much_unpacked"
    detail = Text(
        "압축을 풀면 {size_bytes}바이트로, 한도({limit_bytes}바이트)를 넘습니다.",
        "Unpacked it has {size_bytes} bytes, more than the limit of {limit_bytes}.",
    )
    remedy = Text(
        "필요 없는 파일을 빼거나 packages.max_unpacked_bytes 설정을 늘리세요.",
        "Leave out what is not needed, or raise the setting packages.max_unpacked_bytes.",
    )


class Bomb(PackageProblem):
    code = "packages.bomb"
    detail = Text(
        "'{path}'이(가) 비정상적으로 높은 비율({ratio}배)로 압축되어 있습니다.",
        "'{path}' is compressed beyond any reason ({ratio} times).",
    )
    remedy = Text(
        "압축 폭탄으로 의심되어 거부했습니다. 그 파일을 빼고 올리세요.",
        "It looks like a zip bomb; leave that file out.",
    )


class Overlapping(PackageProblem):
    code = "packages.overlapping"
    detail = Text(
        "zip 안의 파일들이 같은 데이터를 겹쳐 쓰고 있습니다 (예: {path}).",
        "Entries of the zip overlap each other (for example {path}).",
    )
    remedy = Text(
        "압축 폭탄으로 의심되어 거부했습니다. 다시 압축하세요.",
        "It looks like a zip bomb; make the zip anew.",
    )


class Damaged(PackageProblem):
    code = "packages.damaged"
    detail = Text("'{path}'의 내용이 손상되었습니다.", "The content of '{path}' is damaged.")
    remedy = Text("다시 압축해 올리세요.", "Make the zip anew and upload it again.")


# --- its paths


class BadPath(PackageProblem):
    code = "packages.bad_path"
    detail = Text(
        "파일 이름 '{path}'을(를) 쓸 수 없습니다 ({reason}).",
        "The file name '{path}' cannot be used ({reason}).",
    )
    remedy = Text("이름을 바꿔 다시 압축하세요.", "Rename it and make the zip anew.")


class AbsolutePath(PackageProblem):
    code = "packages.absolute_path"
    detail = Text("'{path}'은(는) 절대 경로입니다.", "'{path}' is an absolute path.")
    remedy = Text(
        "패키지 폴더 안에서 상대 경로로 압축하세요.",
        "Zip it from inside the package's folder, with relative paths.",
    )


class Traversal(PackageProblem):
    code = "packages.traversal"
    detail = Text(
        "'{path}'은(는) '..'으로 패키지 밖을 가리킵니다.",
        "'{path}' leads out of the package by '..'.",
    )
    remedy = Text("'..' 없는 경로로 압축하세요.", "Zip it without '..' in paths.")


class DuplicateEntry(PackageProblem):
    code = "packages.duplicate_entry"
    detail = Text("'{path}'이(가) zip 안에 두 번 있습니다.", "'{path}' is in the zip twice.")
    remedy = Text("하나만 남기고 다시 압축하세요.", "Keep one and make the zip anew.")


class CaseCollision(PackageProblem):
    code = "packages.case_collision"
    detail = Text(
        "'{path}'과(와) '{other}'은(는) 대소문자만 다릅니다.",
        "'{path}' and '{other}' differ only by case.",
    )
    remedy = Text("하나의 이름을 바꾸세요.", "Rename one of them.")


class PathClash(PackageProblem):
    code = "packages.path_clash"
    detail = Text(
        "'{path}'은(는) 파일이면서 폴더이거나 링크를 지나갑니다.",
        "'{path}' is both a file and a folder, or lies behind a link.",
    )
    remedy = Text("이름을 바꿔 다시 압축하세요.", "Rename it and make the zip anew.")


class LinkOut(PackageProblem):
    code = "packages.link_out"
    detail = Text(
        "링크 '{path}'이(가) 패키지 밖을 가리킵니다.", "The link '{path}' leads out of the package."
    )
    remedy = Text("링크 대신 실제 파일을 넣으세요.", "Put the file itself in, instead of the link.")


class SpecialFile(PackageProblem):
    code = "packages.special_file"
    detail = Text(
        "'{path}'은(는) 일반 파일이 아닙니다 ({kind}).", "'{path}' is no ordinary file ({kind})."
    )
    remedy = Text("그 항목을 빼고 다시 압축하세요.", "Leave it out and make the zip anew.")


# --- the Dockerfile


class NoDockerfile(PackageProblem):
    code = "packages.no_dockerfile"
    detail = Text(
        "zip 안에 Dockerfile이 없습니다. {hint}", "There is no Dockerfile in the zip. {hint}"
    )
    remedy = Text(
        "zip의 맨 위나 하나뿐인 폴더에 'Dockerfile'이라는 이름으로 넣으세요. "
        "'haechi package init'이 예제를 만들어 줍니다.",
        "Put one named 'Dockerfile' at the top of the zip or into its only folder; "
        "`haechi package init` writes an example.",
    )


class TwoDockerfiles(PackageProblem):
    code = "packages.two_dockerfiles"
    detail = Text(
        "같은 깊이에 Dockerfile이 여러 개 있습니다: {paths}",
        "Several Dockerfiles are equally deep: {paths}",
    )
    remedy = Text(
        "하나만 남기거나, 쓸 Dockerfile을 더 위 폴더에 두세요.",
        "Keep one, or put the one meant into a higher folder.",
    )


class BadDockerfile(PackageProblem):
    code = "packages.bad_dockerfile"
    detail = Text("Dockerfile {line}번째 줄: {reason}", "Dockerfile line {line}: {reason}")
    remedy = Text("Dockerfile을 고쳐 다시 올리세요.", "Correct the Dockerfile.")


class CopySourceMissing(PackageProblem):
    code = "packages.copy_source_missing"
    detail = Text(
        "Dockerfile {line}번째 줄이 복사하는 '{path}'이(가) zip 안에 없습니다.",
        "Dockerfile line {line} copies '{path}', which is not in the zip.",
    )
    remedy = Text(
        "파일을 zip에 넣거나, Dockerfile이 있는 폴더를 기준으로 경로를 고치세요.",
        "Add the file, or write the path relative to the Dockerfile's folder.",
    )


class BadManifest(PackageProblem):
    code = "packages.bad_manifest"
    detail = Text("haechi.toml의 {field}: {reason}", "haechi.toml, {field}: {reason}")
    remedy = Text("haechi.toml을 고쳐 다시 올리세요.", "Correct haechi.toml.")


# --- what was said about it


class BadVersion(PackageProblem):
    code = "packages.bad_version"
    detail = Text(
        "버전 '{version}'은(는) 이미지 태그로 쓸 수 없습니다.",
        "The version '{version}' cannot be an image tag.",
    )
    remedy = Text(
        "영문자, 숫자, '_', '.', '-'만 써서 128자 이내로 하고 '.'이나 '-'로 시작하지 마세요.",
        "Use letters, digits and '_.-', at most 128, not first '.' or '-'.",
    )


class BadName(PackageProblem):
    code = "packages.bad_name"
    detail = Text(
        "패키지 이름 '{name}'을(를) 쓸 수 없습니다.", "The package name '{name}' cannot be used."
    )
    remedy = Text(
        "1~128자로, 경로 구분자와 제어 문자 없이 입력하세요.",
        "Give 1 to 128 characters without path separators or control characters.",
    )


class TooLarge(Invalid):
    code = "packages.too_large"
    http_status = 413
    title = Text("너무 큼", "Too large")
    detail = Text(
        "zip이 한도({limit_bytes}바이트)보다 큽니다.",
        "The zip is larger than the limit of {limit_bytes} bytes.",
    )
    remedy = Text(
        "필요 없는 파일을 빼거나 packages.max_upload_bytes 설정을 늘리세요.",
        "Leave out what is not needed, or raise the setting packages.max_upload_bytes.",
    )


class Incomplete(PackageProblem):
    code = "packages.incomplete"
    detail = Text(
        "{expected_bytes}바이트 중 {received_bytes}바이트만 받았습니다.",
        "Only {received_bytes} of {expected_bytes} bytes arrived.",
    )
    remedy = Text("다시 올리세요.", "Upload it again.")


class VersionExists(Conflict):
    code = "packages.version_exists"
    detail = Text(
        "패키지 {package}의 버전 {version}은(는) 다른 내용으로 이미 있습니다.",
        "Version {version} of {package} exists with other content.",
    )
    remedy = Text(
        "새 버전을 쓰거나, 내용을 바꾸려면 교체(replace)를 선택하세요. 이전 내용은 보관됩니다.",
        "Use a new version, or choose replace to edit it; the old content is kept in its history.",
    )


class NameCollision(Conflict):
    code = "packages.name_collision"
    detail = Text(
        "이름 '{name}'은(는) 정규화하면 '{label}'이 되어 패키지 '{other}'와(과) 겹칩니다.",
        "The name '{name}' becomes '{label}', which is package '{other}'.",
    )
    remedy = Text(
        "다른 이름을 쓰거나, 같은 패키지라면 이름을 '{label}'로 지정하세요.",
        "Choose another name; if it is the same package, name it '{label}'.",
    )


class StillDeployed(Conflict):
    """`where` lists each use."""

    code = "packages.still_deployed"
    detail = Text(
        "{package} {version}은(는) 아직 {count}곳에서 쓰이고 있어 지울 수 없습니다.",
        "{package} {version} is still used in {count} places and cannot be deleted.",
    )
    remedy = Text(
        "표시된 배포를 먼저 제거하거나 강제 삭제를 선택하세요.",
        "Remove the deployments listed first, or force the delete.",
    )


class ZipLost(AppError):
    code = "packages.zip_lost"
    http_status = 500
    title = Text("파일이 없음", "File lost")
    detail = Text(
        "버전 {version}의 zip 파일이 저장소에 없습니다.",
        "The zip of version {version} is no longer in the store.",
    )
    remedy = Text("같은 zip을 다시 올리면 복구됩니다.", "Upload the same zip again to restore it.")
