"""What is written down as measured: every shipped experiment over seeds, learners at many sizes.

`python -m benchmarks.results FOLDER [--quick]` trains (in parallel, a process for each run; what is
finished is not done again), writes one JSON an experiment with its pictures, and makes the pages,
the README's table among them, from the JSON.
"""
