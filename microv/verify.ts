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
import { type Counterexample, explain } from "./counterexample.ts";
import type { Module } from "./module.ts";
import { type Problem, type ProveOptions, prove, type Result } from "./prover.ts";
import type { SourceMap } from "./sourcemap.ts";

/** What a core claims. */
export interface Claims {
  readonly theory: Theory;
  readonly contracts: readonly Contract[];
  /** Functions proved elsewhere or not at all, with the reason. */
  readonly unproved: readonly Unproved[];
  /** Problems that are about no function: lemmas and theorems. */
  readonly lemmas: readonly Problem[];
  /** What is assumed of the machine and of mathematics, by name, with the reason. */
  readonly axioms: readonly { readonly name: string; readonly reason: string }[];
}

export interface VerifyOptions extends ProveOptions {
  readonly module: Module;
  readonly sourceMap?: SourceMap | undefined;
  /** Only functions and lemmas of which this holds. */
  readonly only?: (name: string) => boolean;
  /** Told which function is executed. */
  readonly onExecute?: (name: string) => void;
}

/** One function, lemma or theorem, and what became of it. */
export interface Verdict {
  readonly name: string;
  readonly kind: "function" | "lemma";
  readonly status: "proved" | "failed" | "unproved";
  /** How a function without a problem of its own is proved: as part of these. */
  readonly within?: readonly string[];
  readonly reason?: string;
  readonly results: readonly Result[];
  readonly problem?: Problem | FunctionProblem;
}

/** The verdict of results: the worst one counts. */
function judge(results: readonly Result[]): { status: "proved" | "failed"; reason?: string } {
  const bad = results.find(({ status }) => status !== "proved");
  if (!bad) return { status: "proved" };
  const words =
    bad.status === "unknown"
      ? `undecided: ${bad.reason}`
      : bad.status === "vacuous"
        ? "it holds only because nothing gets there"
        : "it does not hold";
  return { status: "failed", reason: `${bad.name}: ${words}` };
}

/** Proves what can be proved of every function of the module, and every lemma. */
export async function verify(claims: Claims, options: VerifyOptions): Promise<Verdict[]> {
  const { module } = options;
  const wanted = options.only ?? (() => true);
  const contracts = new Map(claims.contracts.map((contract) => [contract.function, contract]));
  const unproved = new Map(claims.unproved.map(({ function: name, reason }) => [name, reason]));
  const own = module.functions.filter(({ imported }) => !imported);
  const problems: FunctionProblem[] = [];
  const verdicts = new Map<string, Verdict>();
  for (const { name } of own) {
    const contract = contracts.get(name);
    const reason = unproved.get(name);
    if (reason !== undefined) {
      verdicts.set(name, { name, kind: "function", status: "unproved", reason, results: [] });
    } else if (contract && wanted(name)) {
      options.onExecute?.(name);
      try {
        problems.push(
          functionProblem(module, claims.theory, claims.contracts, contract, {
            sourceMap: options.sourceMap,
          }),
        );
      } catch (error) {
        const words = error instanceof Error ? error.message : String(error);
        verdicts.set(name, { name, kind: "function", status: "failed", reason: words, results: [] });
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const lemmas = claims.lemmas.filter(({ name }) => wanted(name));
  const results = await prove([...problems, ...lemmas], options);
  const byProblem = new Map<string, Result[]>();
  for (const result of results)
    byProblem.set(result.problem, [...(byProblem.get(result.problem) ?? []), result]);
  const settle = (problem: Problem, kind: Verdict["kind"]) => {
    const mine = byProblem.get(problem.name) ?? [];
    verdicts.set(problem.name, { name: problem.name, kind, ...judge(mine), results: mine, problem });
  };
  for (const problem of problems) settle(problem, "function");
  for (const lemma of lemmas) settle(lemma, "lemma");
  for (const { name } of own) {
    if (verdicts.has(name) || !wanted(name)) continue;
    const hosts = problems.filter(({ executed }) => executed.includes(name)).map((problem) => problem.name);
    const failed = hosts.find((host) => verdicts.get(host)?.status !== "proved");
    if (hosts.length === 0) {
      verdicts.set(name, {
        name,
        kind: "function",
        status: "unproved",
        reason: "it has no contract, and no proved function executes it",
        results: [],
      });
    } else if (failed !== undefined) {
      verdicts.set(name, {
        name,
        kind: "function",
        status: "unproved",
        reason: `it is part of ${failed}, which is not proved`,
        within: hosts,
        results: [],
      });
    } else verdicts.set(name, { name, kind: "function", status: "proved", within: hosts, results: [] });
  }
  return [...verdicts.values()];
}

/** Counterexamples for the goals of a verdict that fail. */
export function counterexamples(verdict: Verdict): Counterexample[] {
  const problem = verdict.problem;
  return verdict.results.flatMap((result) =>
    result.status === "failed"
      ? [
          explain(
            result.goal,
            result.model,
            problem && "execution" in problem ? problem.execution : undefined,
          ),
        ]
      : [],
  );
}
