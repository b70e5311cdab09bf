"""Known answers by another road than the shipped solutions: what tests hold these against.

Nothing that ships needs them; they share no more with the solutions than checks of arguments.
"""
