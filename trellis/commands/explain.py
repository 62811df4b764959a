"""`trellis explain`"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import asdict

import click

from trellis.options import output_option
from trellis.output import Output


@click.command
@click.argument("code", required=False)
@output_option
def command(code: str | None, output: Output) -> None:
    """Say what an error code means and what helps: of CODE, or of all there are.

    \b
    trellis explain TRL-LNK-003
    trellis explain lnk-3
    """
    from trellis.errors import explanations
    from trellis.show import columns

    known = explanations()
    if code is None:
        rows = [[one.code, one.meaning] for one in known.values()]
        output.answer([asdict(one) for one in known.values()], columns(rows))
        return
    found = known[_meant(code, known)]
    head = f"{click.style(found.code, bold=True)}: {found.meaning}"
    output.answer(asdict(found), [head, f"  when: {found.where}", f"  fix:  {found.fix}"])


def _meant(asked: str, known: Collection[str]) -> str:
    """`lnk-3` is TRL-LNK-003. Raises UsageError for what is no code."""
    family, _, number = asked.upper().removeprefix("TRL-").partition("-")
    code = f"TRL-{family}-{number.zfill(3)}"
    if code in known:
        return code
    close = difflib.get_close_matches(code, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`trellis explain` lists them all"
    raise click.UsageError(f"there is no error code `{asked}`; {hint}")
