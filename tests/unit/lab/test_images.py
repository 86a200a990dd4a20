"""Images are kept under a key of what goes into them."""

from lab import images


def test_a_changed_recipe_is_another_image(tmp_path, monkeypatch):
    before = images.bare(), images.docker()
    for file in images.RECIPE.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    monkeypatch.setattr(images, "RECIPE", tmp_path)
    assert (images.bare(), images.docker()) == before

    (tmp_path / "sudoers").write_text("# nobody\n")

    after = images.bare(), images.docker()
    assert not set(after) & set(before)


def test_a_new_package_makes_a_new_image(monkeypatch):
    before = images.docker()
    monkeypatch.setattr(images, "DOCKER", [*images.DOCKER, "another"])
    assert images.docker() != before
    assert images.docker().startswith("localhost/haechi-lab/docker:")
