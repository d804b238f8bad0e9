/**
 * What the page table fixture is proved to do: `map` and `unmap` refine a finite map from addresses to entries, keep the tree of tables a
 * tree, and leave nothing stale in the TLB. The end-to-end test of the verifier.
 */

import { add, and, concat, eq, extract, implies, ite, not, or, sub, uge, ule, ult, zext } from "../build.ts";
import type { Execution } from "../counterexample.ts";
import { Executor } from "../executor.ts";
import { WordMemory } from "../linear.ts";
import { Memory } from "../memory.ts";
import type { Call, CallModel, LoopSpec } from "../model.ts";
import type { Module } from "../module.ts";
import type { Problem } from "../prover.ts";
import { SourceMap } from "../sourcemap.ts";
import { copyState, initialState, type State } from "../state.ts";
import { bv, FALSE, type Term, TRUE, variable } from "../term.ts";

const LEVELS = 4;
const POOL_BASE = bv(0x40000, 36);
const POOL_END = bv(0x44000, 36);
const POOL_NEXT = 0x100;

const page = (address: Term) => extract(47, 12, address);
const valid = (entry: Term) => eq(extract(0, 0, entry), bv(1, 1));
const slot = (ipa: Term, level: number) => extract(47 - 9 * level, 39 - 9 * level, ipa);
const at = (memory: string, state: State) => state.memories[memory] as Memory;
const entry = (state: State, table: Term, index: Term) => at("words", state).read(concat(table, index));
const next = (state: State) => WordMemory.field(at("linear", state), POOL_NEXT, 8);
const inPool = (p: Term) => and(uge(p, POOL_BASE), ult(p, POOL_END));
const isTable = (state: State, p: Term) => and(uge(p, POOL_BASE), ult(p, page(next(state))));
const level = (state: State, p: Term) => at("level", state).read(p);

function poolInvariant(state: State): Term {
  const n = next(state);
  const aligned = and(eq(extract(11, 0, n), bv(0, 12)), eq(extract(63, 48, n), bv(0, 16)));
  return and(aligned, uge(page(n), POOL_BASE), ule(page(n), POOL_END));
}

/** A valid entry of a table above the last level points to a table one level below that has this entry as its only parent. */
function entryInvariant(state: State, key: Term): Term {
  const [p, i] = [extract(44, 9, key), extract(8, 0, key)];
  const e = at("words", state).read(key);
  const q = page(e);
  return implies(
    and(isTable(state, p), ult(level(state, p), bv(LEVELS, 3)), valid(e)),
    and(
      isTable(state, q),
      eq(level(state, q), add(level(state, p), bv(1, 3))),
      eq(at("parentPage", state).read(q), p),
      eq(at("parentSlot", state).read(q), i),
    ),
  );
}

function isRoot(state: State, root: Term): Term {
  const aligned = and(eq(extract(11, 0, root), bv(0, 12)), eq(extract(63, 48, root), bv(0, 16)));
  return and(aligned, isTable(state, page(root)), eq(level(state, page(root)), bv(1, 3)));
}

/** The leaf that the hardware finds, 0 for none. */
function walk(state: State, root: Term, ipa: Term): Term {
  let [table, found, e] = [page(root), TRUE, bv(0, 64)];
  for (let i = 0; i < LEVELS; i++) {
    e = entry(state, table, slot(ipa, i));
    found = and(found, valid(e));
    table = page(e);
  }
  return ite(found, e, bv(0, 64));
}

function start(): State {
  const memories = {
    words: Memory.arbitrary("words", 45, 64),
    level: Memory.arbitrary("level", 36, 3),
    parentPage: Memory.arbitrary("parentPage", 36, 36),
    parentSlot: Memory.arbitrary("parentSlot", 36, 9),
    linear: WordMemory.arbitrary("linear"),
  };
  return initialState(memories, { stale: bv(0, 2), unordered: FALSE });
}

const root = variable("root", 64);
const ipa = variable("ipa", 64);
/** Any word of any new table page. */
const someSlot = variable("someSlot", 9);

function checkAddress({ oblige }: Call, address: Term): void {
  oblige(
    "physical addresses are aligned and below 2^48",
    and(eq(extract(2, 0, address), bv(0, 3)), eq(extract(63, 48, address), bv(0, 16))),
  );
}

/** The TLB entry of (root, ipa): 0 agrees with the tables, 1 the entry was written, 2 that is visible, 3 invalidation was asked for. */
const models: Record<string, CallModel> = {
  "pagetable.pt_read": (call) => {
    const [address] = call.args as [Term];
    checkAddress(call, address);
    return at("words", call.state).read(extract(47, 3, address));
  },
  "pagetable.pt_write": (call) => {
    const { state, oblige } = call;
    const [address, value] = call.args as [Term, Term];
    checkAddress(call, address);
    const key = extract(47, 3, address);
    const [p, child] = [page(address), page(value)];
    const old = at("words", state).read(key);
    const link = and(isTable(state, p), ult(level(state, p), bv(LEVELS, 3)), valid(value));
    oblige("a table is zero when it is linked", implies(link, eq(entry(state, child, someSlot), bv(0, 64))));
    oblige("zeroing is ordered before the link", implies(link, not(state.ghosts.unordered as Term)));
    const kills = and(isTable(state, p), valid(old));
    oblige("a valid entry is replaced by an invalid one only", implies(kills, not(valid(value))));
    state.ghosts.stale = ite(kills, bv(1, 2), state.ghosts.stale as Term);
    state.memories.level = at("level", state).store(child, add(level(state, p), bv(1, 3)), link);
    state.memories.parentPage = at("parentPage", state).store(child, p, link);
    state.memories.parentSlot = at("parentSlot", state).store(child, extract(11, 3, address), link);
    state.memories.words = at("words", state).store(key, value);
  },
  "pagetable.page_zero": (call) => {
    const [address] = call.args as [Term];
    checkAddress(call, address);
    call.state.ghosts.unordered = TRUE;
    call.state.memories.words = at("words", call.state).rewrite((key, old) =>
      ite(eq(extract(44, 9, key), page(address)), bv(0, 64), old),
    );
  },
  "pagetable.dsb": ({ state }) => {
    const stale = state.ghosts.stale as Term;
    state.ghosts.unordered = FALSE;
    state.ghosts.stale = ite(eq(stale, bv(1, 2)), bv(2, 2), ite(eq(stale, bv(3, 2)), bv(0, 2), stale));
  },
  "pagetable.tlbi_ipa": ({ state, args }) => {
    const [r, address] = args as [Term, Term];
    const stale = state.ghosts.stale as Term;
    const hits = and(eq(stale, bv(2, 2)), eq(r, root), eq(page(address), page(ipa)));
    state.ghosts.stale = ite(hits, bv(3, 2), stale);
  },
};

/** The execution of `map` or `unmap` from an arbitrary state. */
export function walkExecution(module: Module, name: "map" | "unmap", map?: string): Execution {
  const args = name === "map" ? [root, ipa, variable("pa", 64), variable("attributes", 64)] : [root, ipa];
  const options = { models, sourceMap: map ? new SourceMap(map) : undefined };
  return { module, function: name, options, state: start(), args };
}

/** What is to be proved of it. */
export function walkProblem(module: Module, name: "map" | "unmap", map?: string): Problem {
  const { options, state: before, args } = walkExecution(module, name, map);
  const executor = new Executor(module, options);
  const outcome = executor.run(name, before, args);
  if (!outcome?.result) throw new Error(`${name} does not return`);
  const { state: after, result } = outcome;
  const anyRoot = variable("anyRoot", 64);
  const anyIpa = concat(bv(0, 16), variable("anyPage", 36), bv(0, 12));
  const anyKey = variable("anyKey", 45);
  const done = eq(result, bv(0, 32));
  const inRange = eq(extract(63, 48, ipa), bv(0, 16));
  const same = and(eq(page(anyRoot), page(root)), eq(page(anyIpa), page(ipa)));
  const found = walk(before, root, ipa);
  const [pa, attributes] = [variable("pa", 64), variable("attributes", 64)];
  const leaf =
    name === "map"
      ? concat(
          bv(0, 9),
          extract(54, 54, attributes),
          bv(0, 6),
          page(pa),
          extract(11, 2, attributes),
          bv(3, 2),
        )
      : bv(0, 64);
  const codes =
    name === "map"
      ? and(
          eq(eq(result, bv(-22, 32)), not(inRange)),
          implies(done, not(valid(found))),
          implies(eq(result, bv(-17, 32)), valid(found)),
          or(...[0, -22, -12, -17].map((code) => eq(result, bv(code, 32)))),
        )
      : and(
          eq(eq(result, bv(-22, 32)), not(inRange)),
          implies(inRange, eq(done, valid(found))),
          or(not(inRange), done, eq(result, bv(-2, 32))),
        );
  const goal = (title: string, formula: Term) => ({ name: title, path: after.path, goal: formula });
  return {
    name,
    hypotheses: [poolInvariant(before), isRoot(before, root), isRoot(before, anyRoot), ...executor.facts],
    entryFacts: [{ memory: "words", at: (key) => entryInvariant(before, key) }],
    goals: [
      ...executor.obligations,
      goal(
        "every walk finds what it found before, but for this page",
        eq(walk(after, anyRoot, anyIpa), ite(and(done, same), leaf, walk(before, anyRoot, anyIpa))),
      ),
      goal("the return code tells what happened", codes),
      goal("the pool invariant holds", poolInvariant(after)),
      goal("the pool only grows", ule(next(before), next(after))),
      goal("the entry invariant holds", entryInvariant(after, anyKey)),
      goal("roots stay roots", isRoot(after, anyRoot)),
      goal(
        "memory outside the pool is unchanged",
        implies(
          not(inPool(extract(44, 9, anyKey))),
          eq(at("words", after).read(anyKey), at("words", before).read(anyKey)),
        ),
      ),
      goal("nothing is stale", eq(after.ghosts.stale as Term, bv(0, 2))),
    ],
  };
}

/** `zero` by a loop specification in closed form instead of 512 iterations. */
export function zeroProblem(module: Module, spec?: Partial<LoopSpec>): Problem {
  const before = start();
  const pa = concat(bv(0, 16), variable("frame", 36), bv(0, 12));
  const counter = (state: State) => state.locals[1] as Term;
  const zeroed = (state: State, count: Term) =>
    at("words", state).rewrite((key, old) =>
      ite(and(eq(extract(44, 9, key), page(pa)), ult(zext(extract(8, 0, key), 64), count)), bv(0, 64), old),
    );
  const loop: LoopSpec = {
    invariant: (now) => ({ "the counter is in range": ule(counter(now), bv(512, 64)) }),
    variant: (now) => sub(bv(512, 64), counter(now)),
    memories: { words: (now, entryState) => zeroed(entryState, counter(now)) },
    ...spec,
  };
  const store: CallModel = (call) => {
    const [address, value] = call.args as [Term, Term];
    checkAddress(call, address);
    call.state.memories.words = at("words", call.state).store(extract(47, 3, address), value);
  };
  const executor = new Executor(module, {
    models: { "pagetable.pt_write": store },
    loops: { "zero#0": loop },
  });
  const outcome = executor.run("zero", before, [pa]);
  if (!outcome) throw new Error("zero does not return");
  const key = variable("anyKey", 45);
  const expected = zeroed(copyState(before), bv(512, 64)).read(key);
  const goal = eq(at("words", outcome.state).read(key), expected);
  return {
    name: "zero",
    hypotheses: executor.facts,
    goals: [
      ...executor.obligations,
      { name: "the page is zero and nothing else changes", path: outcome.state.path, goal },
    ],
  };
}
