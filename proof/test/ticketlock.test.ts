/**
 * Progress of the ticket lock, explored: three CPUs, every interleaving of their atomic operations, two rounds each, from tickets just
 * before they wrap around. The steps are those that `ticketlock.ts` proves to be the code's.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

type Where = "idle" | "waiting" | "holding" | "releasing";
interface Cpu {
  readonly where: Where;
  readonly ticket: number;
  readonly rounds: number;
}
interface World {
  readonly next: number;
  readonly serving: number;
  readonly cpus: readonly Cpu[];
}

const ROUNDS = 2;
const FIRST = 0xffff_fffe;
const after = (ticket: number) => (ticket + 1) >>> 0;

/** The world after CPU `n` takes its next step; none when it is done or looks in vain. */
function step({ next, serving, cpus }: World, n: number): World | undefined {
  const cpu = cpus[n] as Cpu;
  const become = (changes: Partial<Cpu>) => cpus.map((one, i) => (i === n ? { ...one, ...changes } : one));
  switch (cpu.where) {
    case "idle":
      if (cpu.rounds === ROUNDS) return undefined;
      return { next: after(next), serving, cpus: become({ where: "waiting", ticket: next }) };
    case "waiting":
      return cpu.ticket === serving ? { next, serving, cpus: become({ where: "holding" }) } : undefined;
    case "holding":
      return { next, serving, cpus: become({ where: "releasing" }) };
    case "releasing":
      return {
        next,
        serving: after(serving),
        cpus: become({ where: "idle", ticket: 0, rounds: cpu.rounds + 1 }),
      };
  }
}

const isDone = ({ cpus }: World) => cpus.every(({ rounds }) => rounds === ROUNDS);

/** Every world that some interleaving reaches, with the worlds that follow it. */
function explore(start: World): Map<string, { world: World; onward: string[] }> {
  const seen = new Map<string, { world: World; onward: string[] }>();
  const open = [start];
  for (let world = open.pop(); world; world = open.pop()) {
    const name = JSON.stringify(world);
    if (seen.has(name)) continue;
    const onward = world.cpus.flatMap((_, n) => step(world as World, n) ?? []);
    seen.set(name, { world, onward: onward.map((one) => JSON.stringify(one)) });
    open.push(...onward);
  }
  return seen;
}

const start: World = {
  next: FIRST,
  serving: FIRST,
  cpus: Array.from({ length: 3 }, () => ({ where: "idle" as Where, ticket: 0, rounds: 0 })),
};

test("at every moment of every interleaving one CPU at most holds the lock, and it is the one whose ticket is oldest", () => {
  const worlds = explore(start);
  assert.ok(worlds.size > 500, `only ${worlds.size} worlds`);
  for (const { world } of worlds.values()) {
    const holders = world.cpus.filter(({ where }) => where === "holding" || where === "releasing");
    assert.ok(holders.length <= 1, JSON.stringify(world));
    for (const { ticket } of holders) {
      const distance = (one: number) => (one - ticket) >>> 0;
      for (const cpu of world.cpus)
        if (cpu.where === "waiting") assert.ok(distance(cpu.ticket) < 3, JSON.stringify(world));
    }
  }
});

test("whoever waits is served: while somebody is not done somebody moves on, and no interleaving goes on for ever", () => {
  const worlds = explore(start);
  for (const { world, onward } of worlds.values())
    assert.equal(onward.length === 0, isDone(world), JSON.stringify(world));
  // No world is reached twice by one interleaving, so all end: the order of worlds has no cycle.
  const state = new Map<string, "open" | "done">();
  const visit = (name: string): void => {
    assert.notEqual(state.get(name), "open", `an interleaving goes round through ${name}`);
    if (state.get(name) === "done") return;
    state.set(name, "open");
    for (const onward of worlds.get(name)?.onward ?? []) visit(onward);
    state.set(name, "done");
  };
  visit(JSON.stringify(start));
});
