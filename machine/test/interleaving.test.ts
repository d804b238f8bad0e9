/**
 * CPUs in the core at the same time: whenever one holds no lock, others may do anything before it goes on. Every invariant
 * about shared tables holds at each such moment too, and locks are always taken in their order.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Violation } from "../primitives.ts";
import { Random } from "../structures.ts";
import { openLab } from "./lab.ts";
import { describe, kinds, type Operation, perform, sequence, World } from "./operations.ts";
import { buildVariant, type Mutant } from "./variant.ts";

/** A core that maps a page for the host with its locks in another order. */
const disorder: Mutant = {
  file: "memory.ts",
  right: "acquire(LOCK_HOSTMAP);\n  acquire(LOCK_S2PAGE);",
  wrong: "acquire(LOCK_S2PAGE); acquire(LOCK_HOSTMAP);",
  after: "\n  const mapped",
};
const core = await buildVariant([disorder]);
const seed = Number(process.env.COREVISOR_SEED ?? 20261125);
const numRuns = Number(process.env.COREVISOR_RUNS ?? 60);

/** What the others do; CPUs that come and go would have to wait for the end of the entry. */
const names = Object.keys(kinds).filter((name) => !["cpuOn", "cpuOff", "suspend", "smc"].includes(name));

/** Place of a lock in the order of lock.ts: LOCK_VMS, a root's lock, then the others by number. */
function rank(lock: number): number {
  if (lock === 256) return 0;
  return lock < 256 ? 1 : lock;
}

/** Plays `outer`, and at moments of chance parts of `inner` in the middle of it. Returns how often that was. */
function interleave(
  world: World,
  outer: readonly Operation[],
  inner: readonly Operation[],
  random: Random,
): number {
  const { machine } = world;
  const held: number[][] = machine.cpus.map(() => []);
  const log: string[] = [];
  let [depth, between] = [0, 0];
  machine.locks = {
    wanted: (cpu, lock) => {
      const last = held[cpu]?.at(-1);
      if (last !== undefined && rank(last) >= rank(lock))
        throw new Violation("locksHaveAnOrder", `CPU ${cpu} wants lock ${lock} and holds ${held[cpu]}`);
    },
    taken: (cpu, lock) => held[cpu]?.push(lock),
    freed: (cpu, lock) => {
      if (held[cpu]?.pop() !== lock)
        throw new Violation("locksHaveAnOrder", `lock ${lock} is not the last one taken`);
      if (held[cpu]?.length !== 0 || depth > 0 || random.below(2) !== 0) return;
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

test("seen: locks are taken in another order", () => {
  const operations = fc.sample(sequence(250, names), { seed, numRuns: 2 });
  const lab = openLab({ core, mutant: 1, cpus: 3 });
  const [outer = [], inner = []] = operations;
  assert.throws(() => interleave(new World(lab).populate(), outer, inner, new Random(1)), /locksHaveAnOrder/);
});
