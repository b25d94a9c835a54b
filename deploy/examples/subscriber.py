"""Keeps what Causeway says of contacts: the state of all, then each change.

python3 subscriber.py nats://127.0.0.1:4222 state.json
"""

import asyncio
import json
import os
import sys

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

FILTER = "canonical.contact.>"


class Kept:
    """What this service keeps: the contacts, their versions, and how far it has
    read. A database would keep them in one transaction; here it is one file."""

    def __init__(self, file):
        self.file, self.state = file, {"at": 0, "versions": {}, "contacts": {}}
        if os.path.exists(file):
            with open(file) as f:
                self.state = json.load(f)

    def keep(self):
        with open(self.file + ".new", "w") as f:
            json.dump(self.state, f)
        os.replace(self.file + ".new", self.file)

    def take(self, m, snapshot):
        event = json.loads(m.data)
        contact, entity = event["contact"], event["contact"]["id"]
        if event["version"] <= self.state["versions"].get(entity, 0):
            return  # it was here before
        self.state["versions"][entity] = event["version"]
        if contact.get("deleted") or event.get("merged_into"):
            self.state["contacts"].pop(entity, None)
        else:
            self.state["contacts"][entity] = contact
        print(m.headers["ce-id"], m.headers["ce-type"], *(["snapshot"] if snapshot else []), flush=True)


async def main(url, file):
    kept = Kept(file)
    nc = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
    js = nc.jetstream()
    if kept.state["at"] == 0:
        # Whatever is stored after this is found by what follows.
        last = (await js.stream_info("CANONICAL")).state.last_seq
        # An entity has a last message for each op: the one with the greatest
        # version is its state. They come in order, so the last taken is that.
        sub = await js.subscribe(FILTER, ordered_consumer=True, config=ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT))
        pending = (await sub.consumer_info()).num_pending if last else 0
        pending += sub.pending_msgs
        while pending:
            m = await sub.next_msg(timeout=30)
            kept.take(m, True)
            pending = m.metadata.num_pending
        await sub.unsubscribe()
        kept.state["at"] = last
        kept.keep()
    print("live after", kept.state["at"], flush=True)
    while True:
        # Attached again, after what was handled last, whenever nothing comes.
        try:
            sub = await js.subscribe(
                FILTER,
                ordered_consumer=True,
                config=ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=kept.state["at"] + 1),
            )
            while True:
                m = await sub.next_msg(timeout=2)
                kept.take(m, False)
                kept.state["at"] = m.metadata.sequence.stream
                kept.keep()
        except (nats.errors.Error, asyncio.TimeoutError):
            await asyncio.sleep(0.2)
        finally:
            try:
                await sub.unsubscribe()
            except (nats.errors.Error, UnboundLocalError):
                pass


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except KeyboardInterrupt:
        pass
