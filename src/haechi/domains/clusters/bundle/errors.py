"""Everything that can be wrong with a bundle or keep one from being made, one class each.

Several at once travel in `BundleDamaged`; each names the file and what to do about it.
"""

from collections.abc import Sequence

from haechi.errors import AppError, DiskFull, Invalid, ManyProblems, NotFound, Text, Upstream

MAKE_ANEW = Text(
    "'haechi bundle create'로 다시 만들거나 온전한 사본을 다시 가져오세요.",
    "Make it anew with `haechi bundle create`, or fetch a whole copy again.",
)


class BundleNotFound(NotFound):
    code = "bundle.not_found"
    detail = Text("'{path}'에 오프라인 번들이 없습니다.", "There is no offline bundle at '{path}'.")
    remedy = Text(
        "'haechi bundle list'로 확인하고, 없으면 'haechi bundle create'로 만드세요.",
        "`haechi bundle list` shows what there is; `haechi bundle create` makes one.",
    )


class BundleUnreadable(Invalid):
    code = "bundle.unreadable"
    detail = Text(
        "번들의 목록 파일 '{path}'을(를) 읽을 수 없습니다: {reason}",
        "The bundle's list '{path}' cannot be read: {reason}",
    )
    remedy = MAKE_ANEW


class BundleVersionUnknown(Invalid):
    code = "bundle.version_unknown"
    detail = Text(
        "Kubernetes {version}의 버전 목록이 없습니다. 알려진 버전: {known}",
        "No list of versions is known for Kubernetes {version}. Known: {known}",
    )
    remedy = Text(
        "--kubernetes에 알려진 버전을 지정하세요.", "Give one of the known ones by --kubernetes."
    )


class BundlePlatformUnknown(Invalid):
    code = "bundle.platform_unknown"
    detail = Text(
        "플랫폼 '{platform}'은(는) 지원하지 않습니다. 지원: {known}",
        "The platform '{platform}' is not supported. Supported: {known}",
    )
    remedy = Text("--platform을 고치세요.", "Correct --platform.")


# --- what verification finds


class BundleDamaged(ManyProblems):
    """`data.problems` has every problem with its own code and path."""

    code = "bundle.damaged"
    detail = Text(
        "번들 '{path}'에 문제가 {count}개 있습니다.", "The bundle '{path}' has {count} problems."
    )
    remedy = MAKE_ANEW


class PartMissing(Invalid):
    code = "bundle.part_missing"
    detail = Text("'{path}' 파일이 없습니다.", "The file '{path}' is missing.")
    remedy = MAKE_ANEW


class PartChanged(Invalid):
    code = "bundle.part_changed"
    detail = Text(
        "'{path}'의 내용이 목록과 다릅니다 (sha256 {found}, 예상 {expected}).",
        "'{path}' is not what the list says (sha256 {found}, expected {expected}).",
    )
    remedy = MAKE_ANEW


class PartSize(Invalid):
    code = "bundle.part_size"
    detail = Text(
        "'{path}'의 크기가 {found}바이트로, 목록의 {expected}바이트와 다릅니다.",
        "'{path}' has {found} bytes, the list says {expected}.",
    )
    remedy = MAKE_ANEW


class PartUnlisted(Invalid):
    code = "bundle.part_unlisted"
    detail = Text("'{path}'은(는) 목록에 없는 파일입니다.", "The file '{path}' is not in the list.")
    remedy = Text("그 파일을 지우거나 번들을 다시 만드세요.", "Remove it, or make the bundle anew.")


class PartUnreadable(Invalid):
    code = "bundle.part_unreadable"
    detail = Text("'{path}'을(를) 읽을 수 없습니다: {reason}", "'{path}' cannot be read: {reason}")
    remedy = Text(
        "권한과 디스크를 확인하세요. 아니면 온전한 사본을 다시 가져오세요.",
        "Check permissions and disk, or fetch a whole copy again.",
    )


class PartAbsent(Invalid):
    code = "bundle.part_absent"
    detail = Text(
        "목록에 '{path}'이(가) 없어 노드를 준비할 수 없습니다.",
        "'{path}' is not in the list, so no node can be prepared.",
    )
    remedy = MAKE_ANEW


class WrongMachine(Invalid):
    code = "bundle.wrong_machine"
    detail = Text(
        "'{path}'은(는) {found}용이지만 번들은 {platform}용입니다.",
        "'{path}' is for {found}, but the bundle is for {platform}.",
    )
    remedy = MAKE_ANEW


class NotExecutable(Invalid):
    code = "bundle.not_executable"
    detail = Text("'{path}'에 실행 권한이 없습니다.", "'{path}' may not be executed (mode {mode}).")
    remedy = Text("'chmod 755 {path}'를 실행하세요.", "Run `chmod 755 {path}`.")


class NotStatic(Invalid):
    code = "bundle.not_static"
    detail = Text(
        "'{path}'은(는) 공유 라이브러리가 필요해 호스트에서 실행되지 않을 수 있습니다.",
        "'{path}' needs shared libraries that a host may not have.",
    )
    remedy = MAKE_ANEW


class ImageMissing(Invalid):
    code = "bundle.image_missing"
    detail = Text(
        "'{path}'에 이미지 '{reference}'이(가) 없습니다.",
        "'{path}' does not hold the image '{reference}'.",
    )
    remedy = MAKE_ANEW


class ImageWrong(Invalid):
    code = "bundle.image_wrong"
    detail = Text(
        "'{path}'의 이미지 '{reference}'이(가) 잘못되었습니다: {reason}",
        "The image '{reference}' in '{path}' is wrong: {reason}",
    )
    remedy = MAKE_ANEW


class ArchiveUnreadable(Invalid):
    code = "bundle.archive_unreadable"
    detail = Text(
        "이미지 파일 '{path}'을(를) 읽을 수 없습니다: {reason}",
        "The image archive '{path}' cannot be read: {reason}",
    )
    remedy = MAKE_ANEW


class PackageWrong(Invalid):
    code = "bundle.package_wrong"
    detail = Text(
        "호스트 패키지 '{path}'이(가) 잘못되었습니다: {reason}",
        "The host package '{path}' is wrong: {reason}",
    )
    remedy = MAKE_ANEW


# --- what keeps one from being made


class ToolMissing(Upstream):
    code = "bundle.tool_missing"
    detail = Text(
        "번들을 만드는 데 필요한 프로그램 '{tool}'이(가) 이 컴퓨터에 없습니다.",
        "The program '{tool}', needed to make a bundle, is not on this machine.",
    )
    remedy = Text("{how}", "{how}")


class ToolTooOld(Upstream):
    code = "bundle.tool_too_old"
    detail = Text(
        "'{tool}'의 버전 {found}은(는) 너무 낮습니다. {wanted} 이상이 필요합니다.",
        "'{tool}' is {found}; {wanted} or newer is needed.",
    )
    remedy = Text("{how}", "{how}")


class BundleToolsMissing(ManyProblems):
    """`data.problems` names each program."""

    code = "bundle.tools_missing"
    http_status = 502
    detail = Text(
        "번들을 만드는 데 필요한 프로그램이 {count}개 없습니다.",
        "{count} programs needed to make a bundle are missing.",
    )
    remedy = Text(
        "모두 설치한 뒤 다시 실행하세요.", "Install them all, then run the same command again."
    )


class BuildFailed(Upstream):
    code = "bundle.build_failed"
    detail = Text("{what}을(를) 만들지 못했습니다: {reason}", "{what} could not be made: {reason}")
    remedy = Text(
        "전체 기록은 {log}에 있습니다. 인터넷(또는 미러) 연결을 확인하고 같은 명령을 다시 실행하면 "
        "끝난 단계는 건너뜁니다.",
        "The whole log is {log}. Check the way to the internet (or mirror) and run the same "
        "command again: what is done is not done twice.",
    )


class BuildTookTooLong(Upstream):
    code = "bundle.took_too_long"
    http_status = 504
    detail = Text(
        "{what}이(가) {timeout_s}초 안에 끝나지 않았습니다.",
        "{what} did not end within {timeout_s} s.",
    )
    remedy = Text(
        "같은 명령을 다시 실행하세요. 끝난 부분은 다시 하지 않습니다. 기록: {log}",
        "Run the same command again; what is done is not done twice. Log: {log}",
    )


class BundleDiskFull(DiskFull):
    code = "bundle.disk_full"
    detail = Text(
        "'{path}'에 {needed_bytes}바이트가 필요하지만 {free_bytes}바이트만 비어 있습니다.",
        "{needed_bytes} bytes are needed at '{path}', {free_bytes} are free.",
    )
    remedy = Text(
        "디스크를 비우거나 bundle.folder와 bundle.cache 설정으로 다른 위치를 지정하세요.",
        "Free some space, or choose other places by the settings bundle.folder and bundle.cache.",
    )


class BundleInTheWay(Invalid):
    code = "bundle.in_the_way"
    detail = Text(
        "'{path}'에 번들이 아닌 다른 것이 있어 덮어쓰지 않았습니다.",
        "Something that is no bundle is at '{path}'; it was left alone.",
    )
    remedy = Text("다른 위치를 지정하거나 직접 지우세요.", "Choose another place, or remove it.")


class BadCarrier(Invalid):
    code = "bundle.bad_carrier"
    detail = Text(
        "'{path}'은(는) 번들을 담은 tar 파일이 아닙니다: {reason}",
        "'{path}' is no tar file with a bundle: {reason}",
    )
    remedy = Text(
        "'haechi bundle pack'으로 만든 파일인지, 전송 중 잘리지 않았는지 확인하세요.",
        "Check that `haechi bundle pack` made it and that it was copied whole.",
    )


def refuse(path: str, problems: Sequence[AppError]) -> None:
    """Raise all of them together; nothing where there are none."""
    if problems:
        raise BundleDamaged.of(problems, path=path)
