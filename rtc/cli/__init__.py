"""The command line: where policies, tasks and the library meet."""

from __future__ import annotations

import sys
from typing import Any

import click

from rtc.cli.choose import choose
from rtc.cli.demos import demos
from rtc.cli.provenance import versions
from rtc.cli.report import report
from rtc.cli.restore import restore
from rtc.cli.rollout import rollout
from rtc.cli.strategies import strategies
from rtc.cli.sweep import sweep
from rtc.cli.tasks import tasks
from rtc.cli.train import train
from rtc.cli.train_check import train_check
from rtc.cli.train_dynamics import train_dynamics
from rtc.cli.train_prior import train_prior
from rtc.cli.train_residual import train_residual
from rtc.errors import RtcError

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C


class OneLineErrors(click.Group):
    """A group whose refusals are one line on stderr, `rtc: error: ...`, and exit code 2."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the command and exit."""
        try:
            code = super().main(*args, **settings | {"standalone_mode": False})
            sys.exit(code if isinstance(code, int) else 0)
        except click.Abort:
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            _refuse(error.format_message())
        except (RtcError, OSError) as error:
            _refuse(str(error))


def _refuse(message: str) -> None:
    click.echo(f"rtc: error: {' '.join(message.split())}", err=True)
    sys.exit(2)


@click.group(
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.version_option(versions()["rtc"], prog_name="rtc", message="%(prog)s %(version)s")
def main() -> None:
    """Execute action chunks in real time: simulate, compare, train."""


# The commands, one file each.
main.add_command(rollout)
main.add_command(sweep)
main.add_command(strategies)
main.add_command(report)
main.add_command(choose)
main.add_command(tasks)
main.add_command(demos)
main.add_command(train)
main.add_command(train_dynamics)
main.add_command(train_prior)
main.add_command(train_residual)
main.add_command(restore)
main.add_command(train_check)
