import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import { describe, it } from "node:test";
import { Qmp, type QmpEvent } from "../qmp.ts";

/** A connection whose other end is this test. */
function connection() {
  const sent: { execute: string; arguments: unknown; id: number }[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      sent.push(JSON.parse(chunk.toString()));
      done();
    },
  });
  const events: QmpEvent[] = [];
  return { stream, sent, events, qmp: new Qmp(stream, (event) => events.push(event)) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("QEMU's control connection", () => {
  it("gives each command its own answer, in any order and cut anywhere", async () => {
    const { stream, sent, qmp } = connection();
    const first = qmp.execute("stop");
    const second = qmp.execute("query-status", { deep: true });
    assert.deepEqual(
      sent.map(({ execute, arguments: args }) => [execute, args]),
      [
        ["stop", {}],
        ["query-status", { deep: true }],
      ],
    );
    const text = `{"return": {"running": true}, "id": ${sent[1]?.id}}\r\n{"return": {}, "id": ${sent[0]?.id}}\r\n`;
    for (const part of text.match(/.{1,7}/gs) ?? []) {
      stream.push(part);
      await turn();
    }
    assert.deepEqual(await second, { running: true });
    assert.deepEqual(await first, {});
  });

  it("passes events on", async () => {
    const { stream, events } = connection();
    stream.push(
      '{"QMP": {"version": {}}}\n{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}\n',
    );
    stream.push('{"event": "STOP", "timestamp": {}}\n');
    await turn();
    assert.deepEqual(events, [
      { name: "SHUTDOWN", data: { guest: true, reason: "guest-reset" } },
      { name: "STOP", data: {} },
    ]);
  });

  it("fails a command with QEMU's words", async () => {
    const { stream, sent, qmp } = connection();
    const failing = qmp.execute("pmemsave");
    stream.push(
      `{"error": {"class": "GenericError", "desc": "Could not open file"}, "id": ${sent[0]?.id}}\n`,
    );
    await assert.rejects(failing, /QEMU: Could not open file/);
  });

  it("fails what waits when QEMU goes, and everything after", async () => {
    const { stream, qmp } = connection();
    const waiting = qmp.execute("stop");
    stream.destroy();
    await assert.rejects(waiting, /closed/);
    await assert.rejects(qmp.execute("stop"), /QEMU is gone/);
  });
});
