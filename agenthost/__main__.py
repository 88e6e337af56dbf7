"""`python -m agenthost` is the command line."""

from agenthost.cli import main

if __name__ == "__main__":
    main()
