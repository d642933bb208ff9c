"""`zmqservices stats` prints changes and long calls besides counts. The answers of nodes are made by hand."""

from zmqservices.cli.happenings import happened, happened_rows, longest, running_rows


def entry(number, what, service="stock", instance="s1", at=100.0, detail=""):
    return {"number": number, "at": at, "what": what, "service": service, "instance": instance, "detail": detail}


def answer(node, service, *timeline):
    return {"node": node, "timeline": timeline, "instances": [{"service": service, "instance": f"{service}1"}]}


def test_a_change_that_several_nodes_saw_is_listed_once_and_an_expected_one_never():
    gone = "was UP, process 7 on blue"
    answers = [
        answer("n1", "orders", entry(1, "listed"), entry(2, "unlisted", at=101.0, detail=gone)),
        answer(
            "n2", "mails", entry(1, "link up"), entry(2, "unlisted", at=102.0, detail=gone),
            entry(3, "link lost", "", "n1", 103.0),
        ),  # fmt: skip
    ]

    first, second = happened(answers)

    assert (first["what"], first["service"], first["instance"]) == ("unlisted", "stock", "s1")
    assert (first["seen_by"], first["detail"]) == (2, gone)
    # A link is that of a node; its service is known where the node has answered.
    assert (second["what"], second["service"]) == ("link lost", "orders")


def test_only_the_last_entries_are_shown():
    entries = happened([answer("n1", "orders", *(entry(n, "unlisted", instance=f"s{n}", at=float(n)) for n in range(1, 31)))])

    title, *rows = happened_rows(entries)

    assert title[1] == "HAPPENED"
    assert [row[3] for row in rows] == [f"s{n}" for n in range(21, 31)]
    assert happened_rows([]) == []


def test_expected_changes_take_no_news_its_place():
    usual = [entry(n, "listed", instance=f"s{n}", at=1000.0 * n) for n in range(2, 400)]

    [only] = happened([answer("n1", "orders", entry(1, "unlisted"), *usual)])

    assert only["what"] == "unlisted"


def running(instance, *seconds):
    calls = [{"method": "take", "call_id": f"{instance}-{one}", "caller": "orders.place.1", "seconds": one} for one in seconds]
    return {"instance": instance, "longest": calls}


def test_calls_that_have_run_for_a_second_are_listed_longest_first():
    found = longest([running("s1", 4.0, 0.2), running("s2", 7.5), {"instance": "of another release"}])

    _, *rows = running_rows([{"service": "stock", "longest": found}])

    assert [one["seconds"] for one in found] == [7.5, 4.0, 0.2]
    assert rows == [
        ("stock", "s2", "take", "7.5 s", "s2-7.5", "orders.place.1"), ("stock", "s1", "take", "4.0 s", "s1-4.0", "orders.place.1")
    ]  # fmt: skip
    assert running_rows([{"service": "stock", "longest": longest([running("s1", 0.2)])}]) == []
