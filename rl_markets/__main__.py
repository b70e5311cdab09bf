"""`python -m rl_markets` is `rl-markets`."""

from rl_markets.cli import main

if __name__ == "__main__":
    main()
