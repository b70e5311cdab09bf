"""Speed, side by side in one run: ours against RLlib's own, Stable-Baselines3, plain torch and JAX,
on one economy; and the pricing market beside worlds written by hand and RLlib's own DQN.

Figures are per CPU second of this process, so that a busy machine does not change them much; the
sides take turns, and each ratio is of figures measured one after the other. All sides have the same
networks.
"""
