/**
 * CPUs in the core at the same time: whenever one holds no lock, others may do anything before it goes on. Every invariant
 * about shared tables holds at each such moment too.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Random } from "../structures.ts";
import { openLab } from "./lab.ts";
import { describe, kinds, type Operation, perform, sequence, World } from "./operations.ts";
import { buildVariant } from "./variant.ts";

const core = await buildVariant();
const seed = Number(process.env.COREVISOR_SEED ?? 20261125);
const numRuns = Number(process.env.COREVISOR_RUNS ?? 120);

/** What the others do; CPUs that come and go would have to wait for the end of the entry. */
const names = Object.keys(kinds).filter((name) => !["cpuOn", "cpuOff", "suspend", "smc"].includes(name));

/** Plays `outer`, and at moments of chance parts of `inner` in the middle of it. Returns how often that was. */
function interleave(
  world: World,
  outer: readonly Operation[],
  inner: readonly Operation[],
  random: Random,
): number {
  const { machine } = world;
  const held = machine.cpus.map(() => 0);
  const log: string[] = [];
  let [depth, between] = [0, 0];
  machine.locks = {
    taken: (cpu) => {
      held[cpu] = (held[cpu] ?? 0) + 1;
    },
    freed: (cpu) => {
      held[cpu] = (held[cpu] ?? 0) - 1;
      if (held[cpu] !== 0 || depth > 0 || random.below(2) !== 0) return;
      const operation = inner[between++ % inner.length] as Operation;
      depth++;
      log.push(`    meanwhile ${describe(operation)}`);
      perform(world, operation, machine.cpu(cpu));
      depth--;
    },
  };
  try {
    for (const operation of outer) {
      log.push(`  ${describe(operation)}`);
      perform(world, operation);
    }
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\nafter\n${log.join("\n")}`, {
      cause: error,
    });
  }
  machine.locks = undefined;
  world.lab.invariants.check();
  return between;
}

for (const privateVms of [false, true]) {
  test(`whatever CPUs do to ${privateVms ? "private" : "ordinary"} VMs between the critical sections of another, every invariant holds`, () => {
    let between = 0;
    const property = fc.property(
      sequence(150, names),
      sequence(150, names),
      fc.nat(),
      (outer, inner, chance) => {
        const lab = openLab({ core, model: "max", privateVms, cpus: 3, poolPages: 200 });
        between += interleave(new World(lab).populate(), outer, inner, new Random(chance));
      },
    );
    const found = fc.check(property, { seed, numRuns, endOnFailure: false });
    const error = found.errorInstance;
    if (found.failed) assert.fail(error instanceof Error ? error.message : String(error));
    assert.ok(between > 10 * numRuns, `only ${between} operations were in between`);
  });
}
