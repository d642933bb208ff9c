import pytest
from docutils.core import publish_doctree

from bench import lines, report, subjects, table
from bench.cases import UnknownCase, cases_of
from bench.soak import slope

from .results import facts, line, rounds


def everything():
    failed = {"kind": "rpc", "subject": "nats", "case": "64", "round": 0, "failed": "no *server* `here`_", **facts()}
    growth = [
        line("", 0, 1000.0 / number, kind="growth", axis="clients", number=number, links=number, client_rss_mb=9)
        for number in (1, 10)
    ]
    openloop = {
        "kind": "openloop", "subject": "zmqservices", "load": 2.0, "server_cpu_us": 500.0, "failed_p50_us": 0.0,
        "rate": 200.0, "saturating_rate": 100.0, "goodput": 95.0, "lag_ms": 0.2,
        "p50_us": 1e5, "p99_us": 2e5, "p999_us": 3e5, "errors": {"RpcTimeout": 7}, "server_rss_mb": 30, **facts(),
    }  # fmt: skip
    held = {"rss_mb": 30.0, "files": 20, "threads": 4, "greenlets": 12, "objects": 1000}
    soaked = [
        {
            "kind": "soak", "passed": float(n), "rate": 10.0, "answered": 10, "errors": {}, "p99_us": 5.0,
            "server": held, "client": held, **facts(),
        }
        for n in range(3)
    ]  # fmt: skip
    wire = {"kind": "wire", "operation": "encode call", "ns": 500.0, "bare_ns": 250.0, **facts()}
    imported = {"kind": "import", "what": "a client", "dependencies_ms": 90.0, "own_ms": 41.25, "round": 0, **facts()}
    start = line("pyzmq", 0, 10.0, case="start")
    measured = [*rounds("pyzmq", [100.0, 110.0]), *rounds("zmqservices", [80.0, 88.0])]
    return [*measured, failed, *growth, openloop, *soaked, wire, imported, start]


def test_a_page_parses_without_a_warning():
    page = report.page(everything(), {"bench-soak.svg": "Memory of *all*"})

    document = publish_doctree(page, settings_overrides={"halt_level": 2, "report_level": 5, "_disable_config": True})

    told = document.astext()
    assert "no *server* `here`_" in told
    assert "7 RpcTimeout" in told
    assert "41.2" in told


def test_a_page_and_its_plots_are_written(tmp_path):
    pytest.importorskip("matplotlib")

    written = list(report.write(everything(), tmp_path))

    assert (tmp_path / "performance-measured.rst").exists()
    assert len([name for name in written if name.endswith(".svg")]) == 4
    assert all((tmp_path / name).stat().st_size for name in written)


def test_ratios_to_the_yardstick_are_shown():
    (title, headings, rows), _ = table.tables(everything())

    ours = dict(zip(headings, next(row for row in rows if row[0] == "zmqservices"), strict=True))
    assert title == "add(), 64 in flight"
    assert ours["rate x pyzmq"] == "0.80"
    assert ours["CPU x pyzmq"] == "1.25"
    assert ours["rate x hub"] == "-"


def test_a_disturbed_machine_is_told():
    assert "NOT quiet" in table.text(rounds("pyzmq", [1.0], others_cores=0.9))
    assert "NOT quiet" not in table.text(rounds("pyzmq", [1.0]))


def test_lines_survive_the_disk(tmp_path):
    writer = lines.Writer(tmp_path / "kept" / "results.jsonl")
    for each in everything():
        writer.write(each)
    writer.close()

    assert lines.read([tmp_path / "kept" / "results.jsonl"]) == everything()


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "bad").write_text('{"kind": "rpc"}\nnonsense\n')

    with pytest.raises(lines.BadLine, match="line 2"):
        lines.read([tmp_path / "bad"])


def test_every_subject_says_what_it_is():
    for name in subjects.ALL:
        subject = subjects.find(name)
        assert subject.name == name
        assert subject.about


def test_names_and_groups_are_resolved_once_each():
    assert subjects.names_of(["pyzmq", "usual", "pyzmq"]) == ["pyzmq", *subjects.USUAL[1:]]
    with pytest.raises(subjects.UnknownSubject, match="'pyzmg'"):
        subjects.names_of(["pyzmg"])
    with pytest.raises(UnknownCase, match="'65'"):
        cases_of(["65"])


def test_a_slope_is_per_hour():
    assert slope([0.0, 1800.0, 3600.0], [10.0, 11.0, 12.0]) == pytest.approx(2.0)
    assert slope([5.0], [1.0]) == 0.0
