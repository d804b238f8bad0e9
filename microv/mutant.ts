/** Judging a mutant: whether the proof notices it, and if not, whether there is anything to notice. */

import { eq } from "./build.ts";
import { parameters } from "./contract.ts";
import { Executor, type Outcome } from "./executor.ts";
import type { MutantVerdict } from "./farm.ts";
import { DecodeError, decode, functionNamed, type Module } from "./module.ts";
import { type Goal, prove } from "./prover.ts";
import { type Term, variable } from "./term.ts";
import {
  type CheckOptions,
  type Claims,
  type ClaimsModule,
  checkFunction,
  hosts,
  provable,
} from "./verify.ts";

/** Verdict on the module `wasm`, in which the function `name` was changed; `options.module` is the original. */
export async function judgeMutant(
  claimsModule: ClaimsModule,
  options: CheckOptions,
  wasm: Uint8Array,
  name: string,
): Promise<MutantVerdict> {
  let module: Module;
  let claims: Claims;
  try {
    module = decode(wasm);
    claims = claimsModule.claimsOf(module);
  } catch (error) {
    return { status: "killed", reason: error instanceof Error ? error.message : String(error) };
  }
  const own = provable(claims, module);
  const names = hosts(module, claims.contracts, functionNamed(module, name));
  const proofs = own.filter((contract) => names.includes(contract.function));
  let doubt: string | undefined;
  for (const contract of proofs) {
    const verdict = await checkFunction(claims, contract, { ...options, module, stopEarly: true });
    if (verdict.status === "proved") continue;
    const bad = verdict.goals.find(({ status }) => status !== "proved");
    const reason = `${contract.function}: ${verdict.reason}`;
    if (bad?.status !== "unknown") return { status: "killed", reason };
    doubt = reason;
  }
  if (await isEquivalent(claims, options, module, name))
    return { status: "equivalent", reason: "the solver proves that both do the same" };
  if (doubt !== undefined) return { status: "undecided", reason: doubt };
  const why = proofs.length === 0 ? `${name} is not proved` : `${names.join(", ")} is proved all the same`;
  return { status: "survived", reason: why };
}

/** Whether the original and the mutated function do the same to every state, as far as the solver can tell. */
async function isEquivalent(
  claims: Claims,
  options: CheckOptions,
  mutated: Module,
  name: string,
): Promise<boolean> {
  try {
    const first = execute(claims, options.module, name);
    const second = execute(claims, mutated, name);
    const goals = sameOutcome(first.outcome, second.outcome);
    const hypotheses = [...claims.theory.hypotheses, ...first.executor.facts, ...second.executor.facts];
    const state = claims.theory.start();
    const entryFacts = claims.theory.invariants.map((one) => ({
      memory: one.memory,
      at: (key: Term) => one.at(state, key),
    }));
    const results = await prove([{ name, hypotheses, entryFacts, goals }], { ...options, stopEarly: true });
    return results.every(({ status }) => status === "proved");
  } catch (error) {
    if (error instanceof DecodeError) throw error;
    return false;
  }
}

function execute(
  claims: Claims,
  module: Module,
  name: string,
): { outcome: Outcome | undefined; executor: Executor } {
  const executor = new Executor(module, { models: claims.theory.models, linear: claims.theory.linear });
  const func = functionNamed(module, name);
  return { outcome: executor.run(func, claims.theory.start(), parameters(func)), executor };
}

function sameOutcome(a: Outcome | undefined, b: Outcome | undefined): Goal[] {
  if (!a || !b) throw new Error("one of them does not return");
  const goals: Goal[] = [];
  const same = (what: string, x: Term, y: Term): void => {
    if (x !== y) goals.push({ name: what, path: a.state.path, goal: eq(x, y), reachable: false });
  };
  same("path", a.state.path, b.state.path);
  if (a.result && b.result) same("result", a.result, b.result);
  for (const [name, memory] of Object.entries(a.state.memories)) {
    const other = b.state.memories[name];
    const key = variable(`any ${name}`, memory.keyWidth);
    if (other && other !== memory) same(name, memory.read(key), other.read(key));
  }
  for (const [name, ghost] of Object.entries(a.state.ghosts)) {
    const other = b.state.ghosts[name];
    if (other) same(name, ghost, other);
  }
  return goals;
}
