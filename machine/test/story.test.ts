/** The demo's story in process: it is good on the core, and says so where it is not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { cpuModelNames } from "../models.ts";
import { type StoryReport, tellStory } from "../story.ts";

for (const model of cpuModelNames) {
  test(`the story on ${model} ends well`, async () => {
    const told: StoryReport[] = [];
    const story = await tellStory({ model, cpus: 3, onEvent: (event) => told.push(event) });
    assert.deepEqual(
      story.attacks.filter(({ result }) => result === "succeeded"),
      [],
    );
    assert.deepEqual(
      story.checks.filter(({ ok }) => !ok),
      [],
    );
    assert.equal(story.ok, true);
    assert.equal(story.host.cpus, 3);
    assert.deepEqual(
      story.guests.map(({ kind, booted, poweredOff, online }) => [kind, booted, poweredOff, online]),
      [
        ["ordinary", true, true, 2],
        ["private", true, true, 2],
      ],
    );
    assert.equal(new Set(story.attacks.map(({ name }) => name)).size, story.attacks.length);
    for (const target of ["core", "vm"] as const)
      assert.ok(story.attacks.filter((one) => one.target === target).length >= 10, target);
    assert.equal(told.length, 1 + story.guests.length + story.attacks.length + story.checks.length);
    assert.match(story.wasmSha256, /^[0-9a-f]{64}$/);
  });
}

test("a machine of one CPU, or of too many, has no story", async () => {
  for (const cpus of [1, 65, 2.5]) await assert.rejects(tellStory({ cpus }), RangeError);
});
