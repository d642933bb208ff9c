"""Any value that can travel, for hypothesis."""

from datetime import timedelta, timezone

from hypothesis import strategies as st

offsets = st.timedeltas(timedelta(hours=-24, microseconds=1), timedelta(hours=24, microseconds=-1))
zones = st.none() | st.builds(timezone, offsets)

numbers = st.integers() | st.integers(min_value=-(2**200), max_value=2**200) | st.floats(allow_nan=False)
times = (
    st.datetimes(timezones=zones, allow_imaginary=True)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
)
# A NaN is not equal to itself, and one that signals cannot be hashed: they have tests of their own.
decimals = st.decimals(allow_nan=False) | st.builds(lambda n: n.scaleb(-3), st.decimals(allow_nan=False, places=2))
texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | numbers | texts | st.binary() | times | decimals | st.uuids()

hashables = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5)
    | st.lists(inner, max_size=5).map(tuple)
    | st.dictionaries(hashables, inner, max_size=5)
    | st.sets(hashables, max_size=5)
    | st.frozensets(hashables, max_size=5),
    max_leaves=20,
)
