"""What a user might take instead; each file says how, in the way that its documentation recommends."""
