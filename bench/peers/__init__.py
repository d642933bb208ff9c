"""Other products that a user might choose, each used as its documentation recommends."""
