"""Links: which target answers an interface that a source imports (protocol: wasmCloud control interface v1, links)."""

from __future__ import annotations

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from lattice.names import EntityId, LinkName


class LinkDefinition(BaseModel):
    """One link as the control interface and the LATTICEDATA bucket hold it.

    The source imports the interfaces, the target exports them. Package and interfaces carry no version.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    source_id: EntityId
    target: EntityId
    name: LinkName = Field(LinkName("default"), validation_alias=AliasChoices("name", "link_name"))
    wit_namespace: str
    wit_package: str
    interfaces: tuple[str, ...]
    source_config: tuple[str, ...] = ()
    target_config: tuple[str, ...] = ()

    def covers(self) -> tuple[str, ...]:
        """The interfaces it links, as `namespace:package/interface`."""
        return tuple(f"{self.wit_namespace}:{self.wit_package}/{i}" for i in self.interfaces)

    @property
    def identity(self) -> tuple[str, ...]:
        """Its ends, package and name: a put of a link with the same takes its place."""
        return (self.source_id, self.target, self.wit_namespace, self.wit_package, self.name)

    def replaces(self, other: LinkDefinition) -> bool:
        return self.identity == other.identity

    def conflicts(self, other: LinkDefinition) -> bool:
        """Both claim an interface of the same source under the same name, for different targets."""
        return (
            (self.source_id, self.wit_namespace, self.wit_package, self.name)
            == (other.source_id, other.wit_namespace, other.wit_package, other.name)
            and self.target != other.target
            and bool(set(self.interfaces) & set(other.interfaces))
        )

    def __str__(self) -> str:
        what = ",".join(self.interfaces)
        return f"{self.source_id} -({self.wit_namespace}:{self.wit_package}/{what} {self.name})-> {self.target}"


class LinkKey(BaseModel):
    """What `link.del` names. `target` is our addition: without it, the first match goes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source_id: EntityId
    name: LinkName = Field(LinkName("default"), validation_alias=AliasChoices("name", "link_name"))
    wit_namespace: str
    wit_package: str
    target: EntityId | None = None

    def matches(self, link: LinkDefinition) -> bool:
        return (self.source_id, self.name, self.wit_namespace, self.wit_package) == (
            link.source_id,
            link.name,
            link.wit_namespace,
            link.wit_package,
        ) and self.target in (None, link.target)


class ComponentRecord(BaseModel):
    """`COMPONENT_{id}` in LATTICEDATA: the image it was last started from, and the links whose source it is."""

    model_config = ConfigDict(extra="allow")

    url: str = ""
    links: list[LinkDefinition] = []
