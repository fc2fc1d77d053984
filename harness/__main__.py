"""``python -m harness`` is ``crashcart``, also where only PYTHONPATH was set."""

from harness.cli.main import main

if __name__ == "__main__":
    main()
