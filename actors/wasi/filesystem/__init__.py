"""wasi:filesystem: the folders an actor was granted, and nothing around them.

| file        | what it knows                                                            |
|-------------|--------------------------------------------------------------------------|
| preopens    | wasi:filesystem/preopens: the granted folders as descriptors             |
| types       | wasi:filesystem/types: `descriptor`, every operation                     |
| directories | `directory-entry-stream`                                                 |
| streams     | the byte streams of a file                                               |
| sandbox     | how a path is walked so that it never leaves its folder                  |
| handles     | which of the host's file descriptors a guest holds, and when they close  |
| metadata    | `descriptor-stat`, timestamps, hashes                                    |
| errors      | `error-code`, from errno                                                 |
"""

from actors.wasi.filesystem.directories import DirectoryEntryStream
from actors.wasi.filesystem.preopens import Preopens
from actors.wasi.filesystem.types import Descriptor, Types

__all__ = ["Descriptor", "DirectoryEntryStream", "Preopens", "Types"]
