import assert from "node:assert/strict";
import { test } from "node:test";
import type { Contract, Theory } from "../contract.ts";
import { areEquivalent } from "../equivalence.ts";
import { WordMemory } from "../linear.ts";
import { Memory } from "../memory.ts";
import { decode } from "../module.ts";
import { findSolvers } from "../solver.ts";
import { initialState } from "../state.ts";
import type { Term } from "../term.ts";
import type { Claims } from "../verify.ts";
import { compile } from "./wasm.ts";

/** A machine whose `tell` is seen in the state, whose `ask` gives anything, and whose `wait` is seen by nothing but when it happens. */
const theory: Theory = {
  start: () => initialState({ told: Memory.arbitrary("told", 32, 32) }),
  invariants: [],
  hypotheses: [],
  models: {
    "machine.tell": ({ state, args: [at, value] }) => {
      state.memories.told = (state.memories.told as Memory).store(at as Term, value as Term);
    },
    "machine.ask": (call) => call.fresh("answer", 32),
    "machine.wait": () => {},
  },
  linear: new WordMemory(),
};

const declarations = `
  @external("machine", "tell") declare function tell(at: u32, value: u32): void;
  @external("machine", "ask") declare function ask(about: u32): u32;
  @external("machine", "wait") declare function wait(): void;
  export function put(value: u32): void { tell(7, value); }
  export function get(about: u32): u32 { wait(); return ask(about); }
`;

/** Whether the function `f` of two bodies does the same. */
async function same(right: string, wrong: string): Promise<boolean> {
  const moduleOf = async (body: string) =>
    decode((await compile("equivalence", `${declarations} export function f(a: u32): u32 { ${body} }`)).wasm);
  const original = await moduleOf(right);
  const mutant = await moduleOf(wrong);
  const named = (name: string) =>
    original.functions.find(({ exports }) => exports.includes(name))?.name ?? "";
  const contracts: Contract[] = ["f", "put", "get"].map((name) => ({
    function: named(name),
    spec: (c) => (name === "put" ? undefined : c.result(32)),
  }));
  const claims: Claims = { theory, contracts, unproved: [], lemmas: [], axioms: [] };
  const solvers = await findSolvers();
  return areEquivalent(claims, { module: original, solvers }, mutant, contracts.slice(0, 1));
}

test("what gives the same is the same", async () => {
  assert(await same("return a * 2;", "return a + a;"));
  assert(!(await same("return a * 2;", "return a * 3;")));
});

test("what is told counts, whatever the order where places differ", async () => {
  assert(await same("tell(1, a); tell(2, 5); return 0;", "tell(2, 5); tell(1, a); return 0;"));
  assert(!(await same("tell(1, a); tell(1, 5); return 0;", "tell(1, 5); tell(1, a); return 0;")));
});

test("answers to different questions do not depend on their order, those to one question do", async () => {
  assert(await same("let x = ask(1); return x - ask(2);", "let y = ask(2); return ask(1) - y;"));
  assert(!(await same("let x = ask(1); return x - ask(1);", "let y = ask(1); return ask(1) - y;")));
});

test("what is seen by nothing counts where it happens", async () => {
  assert(!(await same("tell(1, a); wait(); return 0;", "tell(1, a); return 0;")));
  assert(!(await same("tell(1, a); wait(); return 0;", "wait(); tell(1, a); return 0;")));
});

test("what a function is called with counts, whatever its contract says", async () => {
  assert(await same("put(a * 2); return 0;", "put(a + a); return 0;"));
  assert(!(await same("put(a); return 0;", "put(a + 1); return 0;")));
});

test("it does not count how many bytes the code takes before a call", async () => {
  assert(await same("return get(a * 257 - a);", "return get(a * 256);"));
  assert(!(await same("return get(a * 257 - a);", "return get(a * 255);")));
});
