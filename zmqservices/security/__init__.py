"""Authorization: the policy file of a process, which says what its peers may do.

Internal. Keys and certificates are in `discovery.security`.
"""
