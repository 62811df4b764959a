"""A capability of your own: it answers `demo:text/transform` for every actor that is linked to it.

The host runs this file as a process beside itself. By hand, on any machine that reaches the lattice:

    python shout.py --lattice default --peer shout-actor --link-config suffix=?!
"""

from providers import Link, Provider, export, serve


class Shout(Provider):
    @export("demo:text/transform#shout")
    async def shout(self, link: Link, text: str) -> str:
        return text.upper() + link.config.get("suffix", "!")


if __name__ == "__main__":
    serve(Shout())
