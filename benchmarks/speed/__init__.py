"""Speed, side by side in one run: ours, RLlib's own, Stable-Baselines3, plain torch and JAX.

All are measured on one economy; the pricing market stands beside worlds written by hand and RLlib's
own DQN. Rates are per CPU second of this process, so that a busy machine does not change them much;
the sides take turns, and each ratio is of rates measured one after the other. All sides have the
same networks.
"""
