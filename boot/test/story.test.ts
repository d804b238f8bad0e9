import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { parseStoryLine } from "../story.ts";

describe("a line of the host's console", () => {
  it("tells an event, with whatever stands before it", () => {
    assert.deepEqual(parseStoryLine('[    2.1] @corevisor {"event":"step","name":"info"}'), {
      event: "step",
      name: "info",
    });
    const guest =
      '{"event":"guest","kind":"stock","vcpus":2,"online":2,"booted":true,"poweredOff":true,"more":1}';
    assert.deepEqual(parseStoryLine(`@corevisor ${guest} `), JSON.parse(guest), "further keys pass");
  });

  it("tells nothing when it is torn, of another shape, or of an unknown kind", () => {
    for (const line of [
      "",
      "boot: ready",
      '@corevisor {"event":"step","na',
      '@corevisor {"event":"step"}',
      '@corevisor {"event":"guest","kind":"stock","vcpus":"2"}',
      '@corevisor {"event":"attack","target":"vm","name":"x","result":"maybe"}',
      '@corevisor {"event":"attack","target":"moon","name":"x","result":"refused"}',
      '@corevisor {"event":"check","name":"x","ok":"yes"}',
      '@corevisor {"event":"unknown"}',
      "@corevisor {]}",
    ]) {
      assert.equal(parseStoryLine(line), undefined, line);
    }
  });

  it("never makes the reader fail", () => {
    fc.assert(fc.property(fc.string(), (text) => void parseStoryLine(`@corevisor {${text}}`)));
  });
});
