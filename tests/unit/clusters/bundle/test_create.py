import asyncio

import pytest

from haechi.core.tasks import Tasks
from haechi.domains.clusters.bundle import create
from haechi.domains.clusters.bundle import recipe as recipes
from haechi.domains.clusters.bundle.errors import (
    BuildFailed,
    BundleDiskFull,
    BundleInTheWay,
    BundlePlatformUnknown,
    BundleToolsMissing,
    ToolMissing,
)
from haechi.domains.clusters.bundle.model import Bundle
from haechi.domains.clusters.bundle.verify import problems
from haechi.testing.bundles import FakeCompiler, FakeDistribution, maker

RECIPE = recipes.load()
PLATFORM = "linux/arm64"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "shelf" / "made"


def scratch_of(tmp_path):
    return list(tmp_path.rglob(".making-*"))


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
async def test_what_is_made_is_whole(tmp_path, target, platform):
    making = maker(tmp_path / "cache")
    bundle = await making.create(RECIPE, platform, target)
    assert problems(bundle) == []
    assert bundle.platform == platform
    assert bundle.recipe == RECIPE.digest(platform)
    assert len(making.progress.steps) == len(RECIPE.builds) + 4
    assert making.progress.steps[-1] == f"{len(RECIPE.builds) + 4}/{len(RECIPE.builds) + 4} bundle"
    assert "compiling kubernetes" in making.progress.lines
    assert not scratch_of(tmp_path)
    assert "Free." in (target / "licences/go-modules.txt").read_text()
    assert "| kubernetes | 1.36.3 |" in (target / "licences/README.md").read_text()


async def test_a_second_time_nothing_is_made(tmp_path, target):
    compiler, distribution = FakeCompiler(), FakeDistribution()
    making = maker(tmp_path / "cache", compiler=compiler, distribution=distribution)
    first = await making.create(RECIPE, PLATFORM, target)
    built = list(compiler.built)
    compiler.missing = ToolMissing(tool="go", how="-")  # not even asked
    assert await making.create(RECIPE, PLATFORM, target) == first
    assert compiler.built == built
    assert distribution.made == ["packages", "root"]


async def test_a_damaged_bundle_is_put_together_anew_from_its_pieces(tmp_path, target):
    compiler = FakeCompiler()
    making = maker(tmp_path / "cache", compiler=compiler)
    first = await making.create(RECIPE, PLATFORM, target)
    (target / "bin/kubelet").unlink()
    again = await making.create(RECIPE, PLATFORM, target)
    assert problems(again) == []
    assert again.digest == first.digest
    assert len(compiler.built) == len(RECIPE.builds)


async def test_after_a_failure_only_what_is_missing_is_made(tmp_path, target):
    compiler = FakeCompiler(failing={"flannel"})
    making = maker(tmp_path / "cache", compiler=compiler)
    with pytest.raises(BuildFailed) as failed:
        await making.create(RECIPE, PLATFORM, target)
    assert "flannel" in failed.value.problem("en")["detail"]
    assert not target.exists()
    assert not scratch_of(tmp_path)
    before = list(compiler.built)
    assert "kubernetes" in before
    compiler.failing.clear()
    await making.create(RECIPE, PLATFORM, target)
    assert len(compiler.built) == len(set(compiler.built)) == len(RECIPE.builds)


async def test_again_takes_new_packages_and_compiles_nothing(tmp_path, target):
    compiler, distribution = FakeCompiler(), FakeDistribution()
    making = maker(tmp_path / "cache", compiler=compiler, distribution=distribution)
    await making.create(RECIPE, PLATFORM, target)
    newer = maker(tmp_path / "cache", compiler=compiler, distribution=distribution, again=True)
    assert problems(await newer.create(RECIPE, PLATFORM, target)) == []
    assert distribution.made == ["packages", "root"] * 2
    assert len(compiler.built) == len(RECIPE.builds)


async def test_cancelled_it_leaves_nothing_half_made(tmp_path, target):
    compiler = FakeCompiler(waiting=asyncio.Event())
    making = maker(tmp_path / "cache", compiler=compiler)
    tasks = Tasks("test")
    task = tasks.spawn("create", making.create(RECIPE, PLATFORM, target))
    async with asyncio.timeout(60):
        while "compiling kubernetes" not in making.progress.lines:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await tasks.close()
    assert not target.exists()
    assert not scratch_of(tmp_path)
    compiler.waiting = None
    assert problems(await making.create(RECIPE, PLATFORM, target)) == []


async def test_what_a_killed_run_left_is_removed(tmp_path, target):
    leftover = tmp_path / "cache" / "bundle-pieces" / "arm64" / ".making-killed"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("x")
    await maker(tmp_path / "cache").create(RECIPE, PLATFORM, target)
    assert not leftover.exists()


async def test_two_at_once_make_each_piece_once(tmp_path, target, monkeypatch):
    monkeypatch.setattr(create, "_LOCK_POLL_S", 0.001)
    compiler = FakeCompiler()
    both = [maker(tmp_path / "cache", compiler=compiler) for _ in range(2)]
    one, two = await asyncio.gather(*(each.create(RECIPE, PLATFORM, target) for each in both))
    assert one.digest == two.digest
    assert len(compiler.built) == len(RECIPE.builds)
    assert any("waiting" in line for line in both[1].progress.lines)


async def test_something_else_in_the_way_is_left_alone(tmp_path, target):
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleInTheWay):
        await maker(tmp_path / "cache").create(RECIPE, PLATFORM, target)
    assert (target / "thesis.txt").read_text() == "years of work"
    (target / "thesis.txt").unlink()
    assert problems(await maker(tmp_path / "cache").create(RECIPE, PLATFORM, target)) == []


async def test_all_missing_tools_are_named_at_once(tmp_path, target):
    compiler = FakeCompiler(missing=ToolMissing(tool="go", how="Install Go."))
    distribution = FakeDistribution(missing=ToolMissing(tool="mmdebstrap", how="Install it."))
    with pytest.raises(BundleToolsMissing) as refused:
        await maker(tmp_path / "cache", compiler=compiler, distribution=distribution).create(
            RECIPE, PLATFORM, target
        )
    told = refused.value.problem("en")["data"]["problems"]
    assert [part["remedy"] for part in told] == ["Install Go.", "Install it."]
    distribution.missing = None
    with pytest.raises(ToolMissing):
        await maker(tmp_path / "cache", compiler=compiler, distribution=distribution).create(
            RECIPE, PLATFORM, target
        )


async def test_a_full_disk_is_said_before_hours_of_work(tmp_path, target, monkeypatch):
    monkeypatch.setattr(create, "NEEDED_BYTES", 1 << 60)
    compiler = FakeCompiler()
    with pytest.raises(BundleDiskFull):
        await maker(tmp_path / "cache", compiler=compiler).create(RECIPE, PLATFORM, target)
    assert not compiler.built


async def test_an_unknown_platform(tmp_path, target):
    with pytest.raises(BundlePlatformUnknown):
        await maker(tmp_path / "cache").create(RECIPE, "linux/s390x", target)


async def test_a_bundle_of_another_recipe_is_replaced(tmp_path, target, monkeypatch):
    first = await maker(tmp_path / "cache").create(RECIPE, PLATFORM, target)
    monkeypatch.setattr(recipes, "REVISION", recipes.REVISION + 1)
    second = await maker(tmp_path / "cache").create(RECIPE, PLATFORM, target)
    assert second.recipe != first.recipe
    assert Bundle.open(target).recipe == second.recipe
    assert sorted(path.name for path in target.parent.iterdir()) == [target.name]
