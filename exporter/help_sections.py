"""Groups the options in a command's help into sections."""

from __future__ import annotations

import click

from exporter.registry import COLLECTORS

# Sections of the help, with the prefixes of their options; the last section takes all other options.
SECTIONS = (
    ("Serving", ("--web.",)),
    ("Node", ("--path.", "--state.", "--source", "--hardware.", "--cluster.", "--progress.")),
    ("GPUs", ("--gpu.",)),
    ("Collectors", ("--collector.disable-",)),
    ("Collectors (--collector.NAME enables, --no-collector.NAME disables)", ()),
    ("Collector settings", ("--collector.",)),
    ("Other", ("--",)),
)
SWITCHES = 4  # index of the section that lists the collectors


def key(name: str) -> str:
    """Return the click parameter name of a command line option."""
    return name.replace(".", "_").replace("-", "_")


SWITCH_KEYS = {key(f"collector.{entry.name}"): entry for entry in COLLECTORS}


class Sectioned(click.Command):
    """A click command whose help lists its options in sections."""

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
