"""What a link is for: a provider that has nothing for it refuses it, so that no call finds out."""

from __future__ import annotations

from lattice import BadInput, Finding
from providers.link import LinkRecord
from providers.provider import Provider


def purposeful(provider: Provider, record: LinkRecord) -> None:
    """Raises BadInput for a link whose interfaces the provider neither answers nor calls, as the link points.

    One that does not say what it calls may call anything.
    """
    answered = {export.function.interface for export in provider.exports.values()}
    calls = set(provider.calls or ())
    if record.target == provider.id:
        wrong = [name for name in record.covers() if name in calls and name not in answered]
        if wrong:
            raise _refusal(
                f"link {record}: this provider does not export {', '.join(wrong)}, it calls it",
                fix="link the provider to the component instead: put the trait on the provider",
            )
        if answered and answered.isdisjoint(record.covers()):
            raise _refusal(
                f"link {record}: this provider does not export {', '.join(record.covers())}",
                why=f"it exports {', '.join(sorted(answered))}",
            )
    elif provider.calls is not None and calls.isdisjoint(record.covers()):
        said = ", ".join(sorted(calls)) or "nothing"
        raise _refusal(f"link {record}: of an actor, this provider calls {said} and nothing else")


def _refusal(message: str, *, why: str = "", fix: str = "") -> BadInput:
    return BadInput(Finding("TRL-LNK-005", message, why=why, fix=fix))
