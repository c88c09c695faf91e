"""`python -m rtc.cli` is `rtc`."""

from __future__ import annotations

from rtc.cli import main

if __name__ == "__main__":  # worker processes import this file too
    main(prog_name="rtc")
