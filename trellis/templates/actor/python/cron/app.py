"""Does its work when the schedule says so. The payload is the one of app.yaml."""

import json

from componentize_py_types import Err
from wit_world import exports


class Scheduler(exports.Scheduler):
    def invoke(self, payload: bytes) -> None:
        try:
            job = json.loads(payload)
        except ValueError as error:
            raise Err(f"the payload is not JSON: {error}") from error
        print(f"it is time for {job}")
