import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.db import Database
from haechi.domains.inventory.model import Use
from haechi.domains.packages import Packages
from haechi.domains.packages.problems import (
    BadName,
    BadVersion,
    Incomplete,
    NameCollision,
    StillDeployed,
    TooLarge,
    VersionExists,
    ZipLost,
)
from haechi.errors import AppError, DiskFull, ObjectNotFound, StaleEdit
from haechi.testing import packages as zips

from .conftest import BY, Upload, audited, files_in, pieces


async def test_a_zip_becomes_a_version(packages: Packages, upload: Upload, tmp_path: Path) -> None:
    data = zips.posting("person-detector")
    done = await upload(data, "0.01v")
    assert done.change == "created"
    version = done.version
    assert (version.package_name, version.version, version.size_bytes) == (
        "person-detector",
        "0.01v",
        len(data),
    )
    assert version.images == [zips.BASE]
    assert version.manifest.needs.camera == "many"
    path = await packages.zip_path(version.id)
    assert path.read_bytes() == data
    assert files_in(tmp_path / "packages") == [
        f"sha256/{version.zip_sha256[:2]}/{version.zip_sha256}.zip"
    ]
    assert await packages.get_version("person-detector", "0.01v") == version
    summary = await packages.get("person-detector")
    assert (summary.latest_version, summary.version_count) == ("0.01v", 1)


async def test_the_same_bytes_again_change_nothing(upload: Upload, db: Database) -> None:
    first = await upload(zips.sleeping())
    again = await upload(zips.sleeping())
    assert (again.change, again.version) == ("unchanged", first.version)
    assert await audited(db) == ["upload_package"]


async def test_an_older_versions_bytes_again_describe_nothing_anew(
    packages: Packages, upload: Upload
) -> None:
    first = zips.zip_of(
        {"Dockerfile": "FROM a\n", "haechi.toml": '[package]\nname = "p"\ntitle_en = "Old"\n'}
    )
    second = zips.zip_of(
        {"Dockerfile": "FROM a\n", "haechi.toml": '[package]\nname = "p"\ntitle_en = "New"\n'}
    )
    await upload(first, version="1")
    await upload(second, version="2")
    before = await packages.get("p")
    assert (await upload(first, version="1")).change == "unchanged"
    assert (await packages.get("p")) == before
    assert before.package.title_en == "New"


async def test_other_bytes_are_refused_or_become_a_revision(
    packages: Packages, upload: Upload, tmp_path: Path
) -> None:
    first = await upload(zips.sleeping())
    with pytest.raises(VersionExists):
        await upload(zips.sleeping(version="other"))
    assert len(files_in(tmp_path / "packages")) == 1
    replaced = await upload(zips.sleeping(version="other"), replace=True)
    assert (replaced.change, replaced.version.id) == ("replaced", first.version.id)
    assert replaced.version.revision == 2
    history = await packages.revisions(first.version.id)
    assert [item.zip_sha256 for item in history] == [
        replaced.version.zip_sha256,
        first.version.zip_sha256,
    ]
    old = await packages.zip_path(first.version.id, revision=1)
    assert old.read_bytes() == zips.sleeping()
    with pytest.raises(ObjectNotFound):
        await packages.zip_path(first.version.id, revision=3)


async def test_two_uploads_of_one_version_at_once(
    packages: Packages, upload: Upload, tmp_path: Path
) -> None:
    contents = [zips.sleeping(version=str(n % 3)) for n in range(9)]
    outcomes = await asyncio.gather(*(upload(data) for data in contents), return_exceptions=True)
    created = [o for o in outcomes if not isinstance(o, BaseException) and o.change == "created"]
    same = [o for o in outcomes if not isinstance(o, BaseException) and o.change == "unchanged"]
    assert (len(created), len(same)) == (1, 2)
    assert sum(isinstance(o, VersionExists) for o in outcomes) == 6
    assert len(files_in(tmp_path / "packages")) == 1


@pytest.mark.parametrize(
    "data", [zips.not_a_zip(), zips.truncated(), zips.with_traversal(), zips.without_dockerfile()]
)
async def test_a_refused_upload_leaves_nothing(
    packages: Packages, upload: Upload, tmp_path: Path, data: bytes
) -> None:
    with pytest.raises(AppError):
        await upload(data)
    assert files_in(tmp_path / "packages") == []
    assert (await packages.find()).items == []


@pytest.mark.parametrize("version", ["", ".1", "-1", "a b", "가", "x" * 129, "1/2", "1\n", "a:b"])
async def test_versions_that_are_no_tags(upload: Upload, version: str) -> None:
    with pytest.raises(BadVersion):
        await upload(zips.sleeping(), version)


async def test_versions_stay_as_they_are(packages: Packages, upload: Upload) -> None:
    for version in ("1", "01", "0.01v", "latest", "V1", "_x"):
        await upload(zips.sleeping(), version)
    found = await packages.versions("sleeper", limit=4)
    rest = await packages.versions("sleeper", limit=4, cursor=found.next_cursor)
    assert [v.version for v in (*found.items, *rest.items)] == [
        "_x",
        "V1",
        "latest",
        "0.01v",
        "01",
        "1",
    ]


async def test_the_manifest_names_it_else_the_file(upload: Upload) -> None:
    assert (await upload(zips.sleeping("from_toml"))).version.package_name == "from-toml"
    plain = zips.without_manifest()
    assert (await upload(plain, file_name="My_AI.ZIP")).version.package_name == "my-ai"
    named = await upload(zips.sleeping("from_toml"), name="other")
    assert named.version.package_name == "other"
    with pytest.raises(BadName):
        await upload(plain, file_name="../x.zip")


async def test_korean_names_get_a_stable_label(packages: Packages, upload: Upload) -> None:
    plain = zips.without_manifest()
    first = (await upload(plain, "1", file_name="침입감지.zip")).version
    second = (await upload(plain, "2", file_name="침입감지.zip")).version
    assert first.package_id == second.package_id
    assert first.package_name.startswith("pkg-")
    assert (await packages.get(first.package_id)).package.original_name == "침입감지"


async def test_names_that_fall_together_are_refused(upload: Upload) -> None:
    plain = zips.without_manifest()
    await upload(plain, file_name="my_ai.zip")
    with pytest.raises(NameCollision):
        await upload(plain, file_name="My-AI.zip")
    assert (await upload(plain, name="my-ai")).change == "unchanged"


async def test_too_large_is_refused_as_it_comes(
    make: Callable[..., Packages], tmp_path: Path
) -> None:
    packages = make(max_upload_bytes=1000)
    await packages.start()
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 100
            yield bytes(100)

    with pytest.raises(TooLarge):
        await packages.upload(endless(), file_name="a.zip", version="1", by=BY)
    assert taken == 1100
    with pytest.raises(TooLarge):
        await packages.upload(endless(), file_name="a.zip", version="1", by=BY, expected_bytes=1001)
    assert taken == 1100
    assert files_in(tmp_path) == ["control.db", "control.db-shm", "control.db-wal"]


async def test_the_reserve_of_the_disk_is_kept(make: Callable[..., Packages]) -> None:
    left = [5000]
    packages = make(min_free_bytes=1000, free=lambda _: left[0])
    await packages.start()
    data = zips.sleeping()
    with pytest.raises(DiskFull):
        await packages.upload(
            pieces(data), file_name="a.zip", version="1", by=BY, expected_bytes=4001
        )
    left[0] = 999
    with pytest.raises(DiskFull):
        await packages.upload(pieces(data), file_name="a.zip", version="1", by=BY)


async def test_a_stream_that_breaks_off_leaves_nothing(
    packages: Packages, upload: Upload, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield zips.sleeping()[:100]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await packages.upload(broken(), file_name="a.zip", version="1", by=BY)
    with pytest.raises(Incomplete):
        await upload(zips.sleeping(), expected_bytes=10**6)
    assert files_in(tmp_path / "packages") == []


async def test_a_cancelled_upload_leaves_nothing(packages: Packages, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield zips.sleeping()[:100]
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(packages.upload(hanging(), file_name="a.zip", version="1", by=BY))
        await begun.wait()
        task.cancel()
    assert files_in(tmp_path / "packages") == []


async def test_start_sweeps_what_a_crash_left(
    make: Callable[..., Packages], upload: Upload, tmp_path: Path
) -> None:
    kept = (await upload(zips.sleeping())).version.zip_sha256
    folder = tmp_path / "packages"
    (folder / "incoming" / "req-x.part").write_bytes(b"half")
    (folder / "sha256" / "ff").mkdir()
    (folder / "sha256" / "ff" / ("f" * 64 + ".zip")).write_bytes(b"orphan")
    await make().start()
    assert files_in(folder) == [f"sha256/{kept[:2]}/{kept}.zip"]


async def test_a_lost_zip_is_told_and_healed_by_uploading_it_again(
    packages: Packages, upload: Upload
) -> None:
    version = (await upload(zips.sleeping())).version
    (await packages.zip_path(version.id)).unlink()
    with pytest.raises(ZipLost):
        await packages.zip_path(version.id)
    assert (await upload(zips.sleeping())).change == "unchanged"
    assert (await packages.zip_path(version.id)).read_bytes() == zips.sleeping()


async def test_delete_is_refused_while_deployed(
    packages: Packages, upload: Upload, tmp_path: Path
) -> None:
    version = (await upload(zips.sleeping())).version
    await upload(zips.sleeping(version="2"), "2")
    cleared = []

    async def check(tx: AsyncSession, version_id: str) -> list[Use]:
        if version_id != version.id:
            return []
        return [Use(kind="deployment", id="dep-x", facts={"device": "정문"})]

    async def hook(tx: AsyncSession, version_id: str) -> None:
        cleared.append(version_id)

    packages.on_delete_check(check)
    packages.on_delete(hook)
    for attempt in (
        packages.delete_version("sleeper", "1", by=BY),
        packages.delete("sleeper", by=BY),
    ):
        with pytest.raises(StillDeployed) as caught:
            await attempt
        assert caught.value.data["where"] == [
            {"kind": "deployment", "id": "dep-x", "name": "", "device": "정문"}
        ]
    assert len(files_in(tmp_path / "packages")) == 2
    await packages.delete_version("sleeper", "1", by=BY, force=True)
    assert cleared == [version.id]
    assert len(files_in(tmp_path / "packages")) == 1
    await packages.delete("sleeper", by=BY)
    assert files_in(tmp_path / "packages") == []


async def test_a_zip_shared_by_two_versions_stays_until_both_are_gone(
    packages: Packages, upload: Upload, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        await upload(zips.sleeping(), version)
    await packages.delete_version("sleeper", "1", by=BY)
    assert len(files_in(tmp_path / "packages")) == 1
    await packages.delete_version("sleeper", "2", by=BY)
    assert files_in(tmp_path / "packages") == []


async def test_of_two_edits_at_once_one_is_told_of_the_other(
    packages: Packages, upload: Upload
) -> None:
    await upload(
        zips.zip_of({"Dockerfile": "FROM a\n", "haechi.toml": '[package]\nname = "x"\n'}), "1"
    )
    known = await packages.get_version("x", "1")
    at = known.updated_at
    outcomes = await asyncio.gather(
        packages.edit_version(known.id, "mine", by=BY, known_at=at),
        packages.edit_version(known.id, "his", by=BY, known_at=at),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes] == [type(None), StaleEdit]
    assert (await packages.version(known.id)).description == "mine"
    await packages.edit_version(known.id, "whatever was there", by=BY)


async def test_what_a_person_set_survives_the_next_upload(
    packages: Packages, upload: Upload
) -> None:
    def described(title: str) -> bytes:
        toml = f'[package]\nname = "x"\ntitle_ko = "{title}"\nauthor = "{title}"\n'
        return zips.zip_of({"Dockerfile": "FROM a\n", "haechi.toml": toml})

    await upload(described("가"), "1")
    package = (await packages.get("x")).package
    await packages.edit("x", {"title_ko": "내 제목"}, by=BY, revision=package.revision)
    with pytest.raises(StaleEdit):
        await packages.edit("x", {"title_ko": "b"}, by=BY, revision=package.revision)
    await upload(described("나"), "2")
    package = (await packages.get("x")).package
    assert (package.title_ko, package.author) == ("내 제목", "나")


@pytest.mark.parametrize(
    ("data", "context", "files"),
    [
        (zips.sleeping(), "", ["Dockerfile", "haechi.toml", "main.py"]),
        (zips.in_one_folder("p"), "p", ["Dockerfile", "main.py"]),
        (zips.with_folder_in_copy("p"), "", ["p/Dockerfile", "p/main.py"]),
        (zips.with_cp949_names(), "", ["Dockerfile", "main.py", "한글이름.txt"]),
        (zips.with_backslashes(), "pkg", ["Dockerfile", "main.py"]),
    ],
)
async def test_unpacking_for_a_build(
    packages: Packages, upload: Upload, tmp_path: Path, data: bytes, context: str, files: list[str]
) -> None:
    version = (await upload(data)).version
    target = tmp_path / "build" / "one"
    unpacked = await packages.extract_context(version.id, target)
    assert unpacked.context == target / context
    assert unpacked.dockerfile.read_text().startswith("FROM")
    assert files_in(unpacked.context) == files
    with pytest.raises(FileExistsError):
        await packages.extract_context(version.id, target)


async def test_unpacking_keeps_modes_and_links(
    packages: Packages, upload: Upload, tmp_path: Path
) -> None:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, mode, content in (
            ("Dockerfile", 0o100644, "FROM x\nCOPY run.sh latest /\n"),
            ("run.sh", 0o104777, "#!/bin/sh\n"),
            ("latest", 0o120777, "run.sh"),
        ):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    version = (await upload(out.getvalue())).version
    unpacked = await packages.extract_context(version.id, tmp_path / "b")
    assert (unpacked.context / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (unpacked.context / "latest").readlink() == Path("run.sh")


async def test_unpacking_needs_room(make: Callable[..., Packages], tmp_path: Path) -> None:
    left = [10**9]
    packages = make(min_free_bytes=1000, free=lambda _: left[0])
    await packages.start()
    done = await packages.upload(pieces(zips.sleeping()), file_name="a.zip", version="1", by=BY)
    left[0] = 1000
    with pytest.raises(DiskFull):
        await packages.extract_context(done.version.id, tmp_path / "b")
    assert not (tmp_path / "b").exists()


async def test_a_cancelled_unpacking_has_ended_and_left_nothing(
    packages: Packages, upload: Upload, tmp_path: Path
) -> None:
    version = (
        await upload(zips.zip_of({"Dockerfile": "FROM a\n", "x": bytes(20_000_000)}))
    ).version
    target = tmp_path / "b"
    task = asyncio.get_running_loop().create_task(packages.extract_context(version.id, target))
    while not target.exists() and not task.done():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not target.exists()
