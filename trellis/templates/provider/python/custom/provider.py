"""A capability: answers the interface of wit/greeter.wit for every actor that is linked to it."""

from pathlib import Path

from pydantic import BaseModel

from lattice import WitError
from providers import Link, Provider, export


class Settings(BaseModel):
    """What a link may say."""

    greeting: str = "hello"


@export("local:{{name}}/greeter")
class Greeter(Provider):
    wit = Path(__file__).parent / "wit"
    link_config = Settings

    async def greet(self, link: Link[Settings], name: str) -> str:
        if not name:
            raise WitError("there is nobody to greet")
        return f"{link.config.greeting} {name}"
