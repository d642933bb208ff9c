"""Which files a process consists of, and which of them have changed."""

import os
import sys

from zmqservices.cli.parent_pipe import imported_files
from zmqservices.cli.watch import Watch


def test_an_untouched_file_has_not_changed(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("1")
    watch = Watch()
    watch.add([str(path)])

    assert watch.changed() == []


def test_a_change_is_reported_once(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("1")
    watch = Watch()
    watch.add([str(path)])

    os.utime(path, ns=(1, 1))

    assert watch.changed() == [str(path)]
    assert watch.changed() == []


def test_adding_a_file_again_does_not_hide_its_change(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("1")
    watch = Watch()
    watch.add([str(path)])

    os.utime(path, ns=(1, 1))
    watch.add([str(path)])

    assert watch.changed() == [str(path)]


def test_a_file_that_is_removed_and_restored_has_changed_twice(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("1")
    watch = Watch()
    watch.add([str(path)])

    path.unlink()
    assert watch.changed() == [str(path)]

    path.write_text("2")
    assert watch.changed() == [str(path)]


def test_pythons_own_files_are_not_watched():
    files = imported_files()

    assert __file__ in files or any(file.endswith("configuration.py") for file in files)
    assert os.__file__ not in files
    assert sys.modules["pytest"].__file__ not in files


def test_a_module_that_cannot_be_imported_is_watched(tmp_path, monkeypatch):
    path = tmp_path / "never_imported.py"
    path.write_text("def (:\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert str(path) in imported_files(["never_imported:Class", "nowhere", "", "a..b"])


def test_the_file_of_a_syntax_error_is_watched(tmp_path):
    path = tmp_path / "inner.py"
    path.write_text("def (:\n")
    outer = ValueError("outer")
    outer.__cause__ = SyntaxError("bad", (str(path), 1, 1, "def (:"))

    assert str(path) in imported_files([], outer)
