"""What is unpacked is what was zipped, and nothing else, whoever wrote the zip."""

import io
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haechi.domains.packages import extraction
from haechi.domains.packages.inspection import Limits, Stopped, inspect
from haechi.errors import AppError
from haechi.testing import packages as zips

LIMITS = Limits(max_files=100, max_unpacked_bytes=10_000_000)
NAMES = st.text("abc가나.- _", min_size=1, max_size=6).filter(
    lambda text: text.strip(". ") and not text.startswith("._")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(
    files=st.dictionaries(PATHS, st.binary(max_size=300), max_size=6),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
@settings(max_examples=60, deadline=None)
def test_there_and_back(workshop: Path, files: dict[str, bytes], method: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=workshop))
    files = {"Dockerfile": b"FROM a\n", **files}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    zip_path = folder / "a.zip"
    zip_path.write_bytes(out.getvalue())
    try:
        inspect(zip_path, LIMITS)
    except AppError:
        return  # two names fell together: refused, nothing to unpack
    extraction.extract(zip_path, folder / "tree", LIMITS)
    tree = folder / "tree"
    found = {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file()
    }
    assert found == files


def test_a_zip_swapped_after_its_inspection_harms_nobody(tmp_path: Path) -> None:
    for number, data in enumerate(
        [zips.with_traversal(), zips.with_link(), zips.bomb(32 * 1024**2)]
    ):
        zip_path = tmp_path / f"{number}.zip"
        zip_path.write_bytes(data)
        with pytest.raises(AppError):
            extraction.extract(zip_path, tmp_path / "tree", LIMITS)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            f"{n}.zip" for n in range(number + 1)
        ]


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    zip_path = tmp_path / "a.zip"
    zip_path.write_bytes(zips.sleeping())
    with pytest.raises(Stopped):
        extraction.extract(zip_path, tmp_path / "tree", LIMITS, stop=lambda: True)
    with pytest.raises(Stopped):
        inspect(zip_path, LIMITS, stop=lambda: True)
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("more", [0, 21, 225, 3000])
def test_a_file_that_packs_to_almost_nothing_is_read_to_its_end(tmp_path: Path, more: int) -> None:
    # Just above a whole piece: zlib has taken all of its input and still holds the rest back.
    size = 256 * 1024 + more
    zip_path = tmp_path / "a.zip"
    files = {"Dockerfile": b"FROM a\n", "model.bin": bytes(size)}
    zip_path.write_bytes(zips.zip_of(files, compress=True))
    inspect(zip_path, LIMITS)
    extraction.extract(zip_path, tmp_path / "tree", LIMITS)
    assert (tmp_path / "tree/model.bin").stat().st_size == size
