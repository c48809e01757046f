"""Chaos: images are sent while faults happen, and every one of them must have its one row.

`python -m tests.chaos --seed 1 --minutes 3` does it; docs/reliability.md says what is shown.
`ledger` holds what was sent, `senders` send it, `schedule` says which fault comes when, `faults`
what each does, `world` has the running parts, `observer` notes when a row could be read, and
`checker` finds what is wrong.
"""
