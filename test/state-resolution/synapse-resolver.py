"""Synapse's own state resolution, with the input and output of `ganglion resolve-state`: one case a line, one answer a line.

All events are given to it as ones that it has not stored yet, so that auth differences and conflicted subgraphs are its own
work as well."""

import json
import logging
import sys

from synapse import event_auth  # noqa: F401  (first: it and synapse.state import each other)
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS, StateResolutionVersions
from synapse.events import make_event_from_json
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference

logging.disable(logging.CRITICAL)


class Clock:
    async def sleep(self, _duration):
        pass


class NothingStored:
    async def get_events(self, event_ids, allow_rejected=False):
        return {}

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted_state, additional):
        return StateDifference(
            auth_difference=set(), conflicted_subgraph=set() if conflicted_state is not None else None
        )


def result_of(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("state resolution waits for something")


def resolve(case):
    version = KNOWN_ROOM_VERSIONS[case["room_version"]]
    events = {}
    for event_id, wire in case["events"].items():
        event = make_event_from_json(json.dumps(wire), version)
        if event.event_id != event_id:
            raise ValueError(f"the id of {event_id} is {event.event_id}")
        events[event_id] = event
    sets = [{(events[id].type, events[id].state_key): id for id in ids} for ids in case["state_sets"]]
    if not sets:
        return []
    room_id = next(iter(events.values())).room_id
    if version.state_res == StateResolutionVersions.V1:

        async def given(event_ids):
            return {id: events[id] for id in event_ids}

        state = result_of(v1.resolve_events_with_store(room_id, version, sets, {}, given))
    else:
        state = result_of(
            v2.resolve_events_with_store(Clock(), room_id, version, sets, dict(events), NothingStored())
        )
    return sorted(state.values())


for line in sys.stdin:
    answer = {"id": None}
    try:
        case = json.loads(line)
        answer["id"] = case["id"]
        answer["state"] = resolve(case)
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
