"""The tables of what observability and SECURITY cost: ratios of measurements beside each other."""

from bench import observability, security


def test_what_is_on_is_compared_with_the_slices_beside_it():
    costs = [("metrics", 11.0, 10.0), ("metrics", 33.0, 30.0), ("metrics", 90.0, 20.0), ("nothing", 10.0, 10.0)]
    lines = [{"case": "64 in flight", "subject": name, "cpu_us": cost, "beside_us": beside} for name, cost, beside in costs]

    _, metrics, nothing = observability.text(lines).splitlines()

    assert metrics.split()[-6:] == ["33.00", "us", "20.00", "us", "+10.0", "%"]
    assert nothing.split()[-2:] == ["+0.0", "%"]


def test_closed_is_compared_with_open_in_the_same_round():
    costs = [("open", 10.0), ("SECURITY", 12.0), ("open", 100.0), ("SECURITY", 120.0)]
    lines = [{"case": "1 in flight", "subject": name, "wall_us": cost, "cpu_us": 2 * cost} for name, cost in costs]

    _, row = security.text(lines).splitlines()

    assert row.split()[-6:] == ["55.0", "66.0", "1.20", "110.0", "132.0", "1.20"]
