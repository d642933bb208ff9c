"""What a process allows its peers: the policy file, and the verdicts on what they ask for.

Internal. Keys and certificates are in `discovery.security`.
"""
