// Keeps what Causeway says of contacts: the state of all, then each change.
//
//   npx tsx subscriber.mts nats://127.0.0.1:4222 state.json
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { DeliverPolicy, jetstream, jetstreamManager, type JsMsg } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const [url, file] = process.argv.slice(2);
const filter = "canonical.contact.>";

// What this service keeps: the contacts, their versions, and how far it has read.
// A database would keep them in one transaction; here it is one file.
type Kept = { at: number; versions: Record<string, number>; contacts: Record<string, unknown> };
const kept: Kept = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : { at: 0, versions: {}, contacts: {} };

function keep() {
  writeFileSync(file + ".new", JSON.stringify(kept));
  renameSync(file + ".new", file);
}

function take(m: JsMsg, snapshot: boolean) {
  const id = m.headers?.get("ce-id") ?? "";
  const event = m.json<{ version: number; contact: { id: string; deleted?: boolean }; merged_into?: string }>();
  const entity = event.contact.id;
  if (event.version > (kept.versions[entity] ?? 0)) {
    kept.versions[entity] = event.version;
    if (event.contact.deleted || event.merged_into) delete kept.contacts[entity];
    else kept.contacts[entity] = event.contact;
    console.log(`${id} ${m.headers?.get("ce-type")}${snapshot ? " snapshot" : ""}`);
  }
}

const nc = await connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 200, waitOnFirstConnect: true });
const js = jetstream(nc);

if (kept.at === 0) {
  // Whatever is stored after this is found by what follows.
  const last = (await (await jetstreamManager(nc)).streams.info("CANONICAL")).state.last_seq;
  const consumer = await js.consumers.get("CANONICAL", { filter_subjects: filter, deliver_policy: DeliverPolicy.LastPerSubject });
  if ((await consumer.info()).num_pending > 0) {
    // An entity has a last message for each op: the one with the greatest version
    // is its state. They come in order, so the last that is taken is that.
    for await (const m of await consumer.consume()) {
      take(m, true);
      if (m.info.pending === 0) break;
    }
  }
  kept.at = last;
  keep();
}
console.log(`live after ${kept.at}`);

// An ordered consumer goes on by itself when the connection comes back.
const consumer = await js.consumers.get("CANONICAL", { filter_subjects: filter, deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: kept.at + 1 });
for await (const m of await consumer.consume()) {
  take(m, false);
  kept.at = m.seq;
  keep();
}
