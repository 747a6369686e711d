"""The help of a command with so many options that it needs sections."""

from __future__ import annotations

import click

from exporter.registry import COLLECTORS

# Sections of the help, each with how its options begin; what fits nowhere is under the last.
SECTIONS = (
    ("Serving", ("--web.",)),
    ("The node", ("--path.", "--state.", "--source", "--hardware.", "--cluster.", "--progress.")),
    ("GPUs", ("--gpu.",)),
    ("Collectors", ("--collector.disable-",)),
    ("Collectors, each with --collector.NAME or --no-collector.NAME", ()),
    ("Settings of collectors", ("--collector.",)),
    ("Other", ("--",)),
)
SWITCHES = 4  # which of the sections has the collectors themselves


def key(name: str) -> str:
    """The name by which an option's value is known."""
    return name.replace(".", "_").replace("-", "_")


SWITCH_KEYS = {key(f"collector.{entry.name}"): entry for entry in COLLECTORS}


class Sectioned(click.Command):
    """A command with so many options that its help has sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: list[list[tuple[str, str]]] = [[] for _ in SECTIONS]
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is None:
                continue
            if option.secondary_opts and option.name in SWITCH_KEYS:
                entry = SWITCH_KEYS[option.name]
                off = "" if entry.on else "  [off by default]"
                rows[SWITCHES].append((entry.name, f"{entry.summary}{off}"))
                continue
            starts = option.opts[-1].startswith
            number = next(i for i, (_, heads) in enumerate(SECTIONS) if any(map(starts, heads)))
            rows[number].append(record)
        for (title, _), found in zip(SECTIONS, rows, strict=True):
            if found:
                with formatter.section(title):
                    formatter.write_dl(found)
