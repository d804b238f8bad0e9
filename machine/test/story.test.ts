/** The demo's story in process: it is good on the core, and says so where it is not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CoreFailure } from "../machine.ts";
import { cpuModelNames } from "../models.ts";
import { Violation } from "../primitives.ts";
import { type StoryReport, tellStory } from "../story.ts";
import { buildVariant, type Mutant } from "./variant.ts";

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

const isBreach = (error: unknown) => error instanceof CoreFailure || error instanceof Violation;

const bugs: readonly (Mutant & { readonly seen: RegExp })[] = [
  {
    file: "memory.ts",
    right: "(!isRam(pa) || isHostPage(s2pageIndex(pa))) && hostmapMap(pa)",
    wrong: "hostmapMap(pa)",
    seen: /^(read|write) the core by/,
  },
  {
    file: "memory.ts",
    right: "!hostmapUnmapPage(pa)",
    wrong: "false",
    seen: /^(read|write) the VM by/,
  },
  {
    file: "memory.ts",
    right: "page_zero(pa);",
    wrong: "",
    seen: /^take a page back from the VM and read it$/,
  },
];

test("a core with a hole is seen: the attack succeeds, or an invariant ends the story", async () => {
  const core = await buildVariant(bugs);
  for (const [n, { seen, right }] of bugs.entries()) {
    const mutant = n + 1;
    await assert.rejects(tellStory({ core, mutant }), isBreach, right);
    const story = await tellStory({ core, mutant, unwatched: true });
    assert.equal(story.ok, false);
    const hits = story.attacks.filter(({ result }) => result === "succeeded").map(({ name }) => name);
    assert.ok(
      hits.some((name) => seen.test(name)),
      `"${right}": succeeded are ${JSON.stringify(hits)}`,
    );
  }
  assert.equal((await tellStory({ core, mutant: 0 })).ok, true);
});

test("a machine of one CPU, or of too many, has no story", async () => {
  for (const cpus of [1, 65, 2.5]) await assert.rejects(tellStory({ cpus }), RangeError);
});
