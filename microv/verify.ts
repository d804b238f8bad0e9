/**
 * Verifying a core: every function of a module is proved against its contract, or proved as part of the functions that execute it, or
 * listed with the reason why it is not.
 */

import {
  type Contract,
  type FunctionProblem,
  functionProblem,
  type Theory,
  type Unproved,
} from "./contract.ts";
import { explain, format } from "./counterexample.ts";
import { type Func, functionNamed, instructions, type Module } from "./module.ts";
import { type Problem, type ProveOptions, prove, type Result } from "./prover.ts";
import type { SourceMap } from "./sourcemap.ts";

/** What a core claims. */
export interface Claims {
  readonly theory: Theory;
  readonly contracts: readonly Contract[];
  /** Functions proved elsewhere or not at all, with the reason. */
  readonly unproved: readonly Unproved[];
  /** Functions that a lemma proves, by the name of the lemma. */
  readonly byLemma?: Readonly<Record<string, string>>;
  /** Problems that are about no function: lemmas and theorems. */
  readonly lemmas: readonly Problem[];
  /** What is assumed of the machine and of mathematics, by name, with the reason. */
  readonly axioms: readonly { readonly name: string; readonly reason: string }[];
}

/** What a file with claims exports. */
export interface ClaimsModule {
  /** @throws Error when the module is not one that the claims are about */
  claimsOf(module: Module): Claims;
  /** Everything that the claims depend on beside the module, as text: nothing is reused when it changes. */
  dependencies(): string;
}

/** What became of one goal. */
export interface GoalVerdict {
  readonly name: string;
  readonly status: Result["status"];
  readonly certified: boolean;
  readonly solver: string;
  readonly milliseconds: number;
  readonly reason?: string;
}

/** One function, lemma or theorem, and what became of it. */
export interface Verdict {
  readonly name: string;
  readonly kind: "function" | "lemma";
  readonly status: "proved" | "failed" | "unproved";
  /** How a function without a problem of its own is proved: as part of these, or by a lemma. */
  readonly within?: readonly string[];
  readonly reason?: string;
  readonly goals: readonly GoalVerdict[];
  /** Functions that were executed as part of this one. */
  readonly executed: readonly string[];
  /** Counterexamples to goals that fail, as text. */
  readonly counterexamples: readonly string[];
}

/** The verdict over goals: the worst one counts. */
function judge(goals: readonly GoalVerdict[]): { status: "proved" | "failed"; reason?: string } {
  const bad = goals.find(({ status }) => status !== "proved");
  if (!bad) return { status: "proved" };
  const words =
    bad.status === "unknown"
      ? `undecided: ${bad.reason}`
      : bad.status === "vacuous"
        ? "it holds only because nothing gets there"
        : "it does not hold";
  return { status: "failed", reason: `${bad.name}: ${words}` };
}

function goalVerdict(result: Result): GoalVerdict {
  const { name, status, solver, milliseconds } = result;
  return {
    name,
    status,
    solver,
    milliseconds: Math.round(milliseconds),
    certified: result.status === "proved" && result.certified,
    ...(result.status === "unknown" && { reason: result.reason }),
  };
}

/** Counterexamples for the goals that fail. One that cannot be replayed says why. */
function counterexamples(problem: Problem | FunctionProblem, results: readonly Result[]): string[] {
  return results.flatMap((result) => {
    if (result.status !== "failed") return [];
    try {
      const execution = "execution" in problem ? problem.execution : undefined;
      return [format(explain(result.goal, result.model, execution))];
    } catch (error) {
      return [
        `${result.name}: it fails, but cannot be replayed: ${error instanceof Error ? error.message : error}`,
      ];
    }
  });
}

async function settle(
  problem: Problem | FunctionProblem,
  kind: Verdict["kind"],
  options: ProveOptions,
): Promise<Verdict> {
  const results = await prove([problem], options);
  const goals = results.map(goalVerdict);
  return {
    name: problem.name,
    kind,
    ...judge(goals),
    goals,
    executed: "executed" in problem ? problem.executed : [],
    counterexamples: counterexamples(problem, results),
  };
}

export interface CheckOptions extends ProveOptions {
  readonly module: Module;
  readonly sourceMap?: SourceMap | undefined;
  /** Milliseconds for the symbolic execution of one function. */
  readonly executionMilliseconds?: number;
}

/** Proves the function of a contract. A function that cannot be executed has failed. */
export async function checkFunction(
  claims: Claims,
  contract: Contract,
  options: CheckOptions,
): Promise<Verdict> {
  let problem: FunctionProblem;
  try {
    problem = functionProblem(options.module, claims.theory, claims.contracts, contract, {
      sourceMap: options.sourceMap,
      ...(options.executionMilliseconds !== undefined && { milliseconds: options.executionMilliseconds }),
    });
  } catch (error) {
    return cannotBeStated(contract.function, "function", error);
  }
  return settle(problem, "function", options);
}

/** Proves a lemma. One that cannot be stated, for the code does not do what it is about, has failed. */
export async function checkLemma(lemma: Problem, options: ProveOptions): Promise<Verdict> {
  let problem: Problem;
  try {
    problem = { ...lemma };
  } catch (error) {
    return cannotBeStated(lemma.name, "lemma", error);
  }
  return settle(problem, "lemma", options);
}

function cannotBeStated(name: string, kind: Verdict["kind"], error: unknown): Verdict {
  const reason = error instanceof Error ? error.message : String(error);
  return { name, kind, status: "failed", reason, goals: [], executed: [], counterexamples: [] };
}

/** Contracts of functions that are proved themselves: not those that a lemma proves or that are listed as unproved. */
export function provable(claims: Claims, module: Module): Contract[] {
  const other = new Set([
    ...claims.unproved.map((one) => one.function),
    ...Object.keys(claims.byLemma ?? {}),
  ]);
  const present = new Set(module.functions.filter(({ imported }) => !imported).map(({ name }) => name));
  return claims.contracts.filter(
    (contract) => present.has(contract.function) && !other.has(contract.function),
  );
}

/**
 * Verdicts for all functions of the module, in its order, then the lemmas: those given, and what follows from them for functions without
 * a problem of their own.
 */
export function complete(claims: Claims, module: Module, given: readonly Verdict[]): Verdict[] {
  const verdicts = new Map(given.map((verdict) => [verdict.name, verdict]));
  const unproved = new Map(claims.unproved.map((one) => [one.function, one.reason]));
  const nothing = { kind: "function" as const, goals: [], executed: [], counterexamples: [] };
  const functions = module.functions
    .filter(({ imported }) => !imported)
    .map(({ name }): Verdict => {
      const own = verdicts.get(name);
      if (own) return own;
      const reason = unproved.get(name);
      if (reason !== undefined) return { ...nothing, name, status: "unproved", reason };
      const lemma = claims.byLemma?.[name];
      if (lemma !== undefined) {
        return verdicts.get(lemma)?.status === "proved"
          ? { ...nothing, name, status: "proved", within: [lemma] }
          : {
              ...nothing,
              name,
              status: "unproved",
              within: [lemma],
              reason: `the lemma ${lemma} is not proved`,
            };
      }
      const within = given.filter(({ executed }) => executed.includes(name)).map((verdict) => verdict.name);
      const failed = within.find((host) => verdicts.get(host)?.status !== "proved");
      if (within.length === 0)
        return {
          ...nothing,
          name,
          status: "unproved",
          reason: "it has no contract, and no proved function executes it",
        };
      if (failed !== undefined)
        return {
          ...nothing,
          name,
          status: "unproved",
          within,
          reason: `it is part of ${failed}, which is not proved`,
        };
      return { ...nothing, name, status: "proved", within };
    });
  return [...functions, ...given.filter(({ kind }) => kind === "lemma")];
}

/** The functions whose proofs execute the code of `f`: itself if it has a contract, else those that call it, and so on. */
export function hosts(module: Module, contracts: readonly Contract[], f: Func): string[] {
  const contracted = new Set(contracts.map((contract) => contract.function));
  const found = new Set<string>();
  const seen = new Set<Func>();
  const visit = (func: Func): void => {
    if (seen.has(func)) return;
    seen.add(func);
    if (contracted.has(func.name)) {
      found.add(func.name);
      return;
    }
    for (const caller of module.functions) {
      if ([...instructions(caller.body)].some((i) => i.op === "call" && i.index === func.index))
        visit(caller);
    }
  };
  visit(f);
  return [...found];
}

/** Text that is the same as long as the proof of the function of `contract` stays the same: its code and all code executed with it. */
export function fingerprint(module: Module, contracts: readonly Contract[], contract: Contract): string {
  const contracted = new Set(contracts.map((one) => one.function));
  for (const name of contract.inline ?? []) contracted.delete(name);
  const lines: string[] = [];
  const seen = new Set<Func>();
  const visit = (func: Func): void => {
    if (seen.has(func)) return;
    seen.add(func);
    if (func.imported || (contracted.has(func.name) && func.name !== contract.function)) {
      lines.push(`${func.name} (${func.params}) ${func.results}`);
      return;
    }
    lines.push(`${func.name} (${func.params}) (${func.locals}) ${func.results}`);
    for (const i of instructions(func.body)) {
      const callee = i.op === "call" ? module.functions[i.index] : undefined;
      lines.push(
        `${i.offset - func.bytes.start} ${i.op} ${callee?.name ?? i.index} ${i.value} ${i.displacement} ${i.labels} ${i.results}`,
      );
      if (callee) visit(callee);
    }
  };
  visit(functionNamed(module, contract.function));
  const globals = module.globals.map(({ value, mutable }) => `${value}${mutable ? " mutable" : ""}`);
  const exported = module.exports.map(({ name, kind, index }) =>
    kind === "global" ? `${name} ${index}` : "",
  );
  const { min, max } = module.memory ?? { min: 0, max: 0 };
  return [...lines, ...globals, ...exported, `memory ${min} ${max}`].join("\n");
}
