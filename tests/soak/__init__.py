"""Soak: a stream under a steady flow of images for hours, with faults; nothing of it may grow.

`python -m tests.soak --minutes 120` does it; docs/reliability.md says what is shown. `home` has the
running parts, `flow` sends, `around` looks at the stream from outside as its users do, `timetable`
says when what happens, `samples` notes what each part uses, `verdict` compares the quarters of the
run, and `tests.chaos.checker` finds whether an image was lost or doubled.
"""
