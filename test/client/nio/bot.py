"""A bot that answers `!echo TEXT`, and goes on where it stopped, however it was stopped.

It keeps the token of an answer of /sync when all commands in that are answered, and answers each under a transaction id that
follows from the command: so a command that it meets again is not answered again. Its one argument is a file of settings.
"""

import asyncio
import json
import os
import sys

from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinResponse,
    MegolmEvent,
    MessageDirection,
    RoomMessagesResponse,
    RoomMessageText,
    RoomSendResponse,
    SendRetryError,
    SyncResponse,
)

AGAIN_SECONDS = 0.1
PAGE = 50


class Bot:
    def __init__(self, settings):
        self.token_file = os.path.join(settings["folder"], "token")
        self.client = AsyncClient(
            settings["homeserver"],
            settings["user_id"],
            device_id=settings["device_id"],
            store_path=settings["folder"],
            config=AsyncClientConfig(encryption_enabled=True, max_timeout_retry_wait_time=1, request_timeout=20),
        )
        self.client.restore_login(settings["user_id"], settings["device_id"], settings["access_token"])
        self.token = None
        if os.path.exists(self.token_file):
            with open(self.token_file, encoding="utf-8") as file:
                self.token = file.read()

    async def run(self):
        self.client.add_response_callback(self.synced, SyncResponse)
        # All state: what the rooms are like is in memory alone.
        await self.client.sync_forever(timeout=5_000, since=self.token, full_state=True, loop_sleep_time=10)

    async def synced(self, response):
        for room_id in response.rooms.invite:
            await insist(lambda: self.client.join(room_id), JoinResponse)
        if self.token is not None:
            for room_id, joined in response.rooms.join.items():
                events = joined.timeline.events
                if joined.timeline.limited:
                    events = await self.gap(room_id, joined.timeline.prev_batch) + events
                for event in events:
                    await self.answer(room_id, event)
        self.keep(response.next_batch)

    async def gap(self, room_id, start):
        """What lies between the last answer and this one, oldest first."""
        events = []
        while start is not None:
            page = await insist(
                lambda: self.client.room_messages(room_id, start, self.token, MessageDirection.back, PAGE),
                RoomMessagesResponse,
            )
            events += page.chunk
            start = page.end
        return events[::-1]

    async def answer(self, room_id, event):
        if event.sender == self.client.user_id:
            return
        if isinstance(event, MegolmEvent):
            raise RuntimeError(f"{event.event_id} cannot be decrypted")
        if not isinstance(event, RoomMessageText) or not event.body.startswith("!echo "):
            return
        content = {"msgtype": "m.notice", "body": event.body.removeprefix("!")}
        transaction = f"answer-{event.event_id.removeprefix('$')}"
        await insist(
            lambda: self.client.room_send(
                room_id, "m.room.message", content, tx_id=transaction, ignore_unverified_devices=True
            ),
            RoomSendResponse,
        )

    def keep(self, token):
        draft = f"{self.token_file}.new"
        with open(draft, "w", encoding="utf-8") as file:
            file.write(token)
        os.replace(draft, self.token_file)
        self.token = token


async def insist(ask, wanted):
    """Asks until the answer is one of success."""
    while True:
        try:
            response = await ask()
            if isinstance(response, wanted):
                return response
            print(response, file=sys.stderr)
        except SendRetryError as error:
            print(error, file=sys.stderr)
        await asyncio.sleep(AGAIN_SECONDS)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        asyncio.run(Bot(json.load(file)).run())
