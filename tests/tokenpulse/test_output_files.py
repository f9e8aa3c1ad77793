"""Files that commands write are checked before the work, and written whole."""

from pathlib import Path

import pytest

from streams.errors import ConfigError
from tests.support.command import assert_one_line, run
from tokenpulse.output_files import check_output, write_output


def test_a_file_that_can_be_written_is_left_alone_until_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    check_output("--out", path)
    assert not path.exists()
    write_output("--out", path, "é")
    check_output("--out", path)
    assert path.read_bytes() == "é".encode()
    write_output("--out", path, b"\xff")
    assert path.read_bytes() == b"\xff"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (".", "it is a directory"),
        ("absent/out", "no directory "),
        ("file/out", "file is no directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, path: str, problem: str) -> None:
    (tmp_path / "file").touch()
    for write in (check_output, lambda option, path: write_output(option, path, "")):
        with pytest.raises(ConfigError, match=r"^--out: cannot write .*; give a path") as error:
            write("--out", tmp_path / path)
        if write is check_output:
            assert problem in str(error.value)


def test_a_report_that_cannot_be_written_is_found_before_the_replay(tmp_path: Path) -> None:
    target = tmp_path / "absent" / "report.json"
    done = run("replay", tmp_path / "absent.jsonl", "--report-json", target)
    assert_one_line(done, f"--report-json: cannot write {target}: no directory ")
