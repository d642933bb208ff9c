"""A small run of the bench of a directory."""

from bench import directory, machine


def test_a_small_run_measures_joining_resting_and_changes(tmp_path, monkeypatch):
    for name, value in (("PROCESSES", 2), ("REST", 0.3), ("SETTLE", 0.1), ("CHANGES", 10), ("PAUSE", 0.02)):
        monkeypatch.setattr(directory, name, value)

    found = directory.one("registry", 200, 4, 50, tmp_path)

    assert found["held"] == 100
    assert found["ready_s"] > 0 and found["seen"] > 0 and found["server_rss_mb"] > 1
    line = {"kind": "directory", "of": "registry", "records": 200, "clients": 4, "round": 0, **found, **machine.facts()}
    text = directory.text([line])
    assert "registry, 200 records" in text
