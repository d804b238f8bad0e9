/** What a verification found, for scripts and for people. */

import type { Report } from "./farm.ts";
import { checkShape } from "./shape.ts";
import type { Verdict } from "./verify.ts";

/** Colours for words that matter; `none` for what goes to a file. */
export interface Palette {
  red(text: string): string;
  yellow(text: string): string;
}

/** No colours. */
export const plain: Palette = { red: (text) => text, yellow: (text) => text };

/** Most counterexamples that are shown of one function. */
const SHOWN = 2;

/** The JSON that scripts rely on. */
export interface Summary {
  readonly ok: boolean;
  readonly wasmSha256: string;
  readonly functions: number;
  readonly proved: number;
  readonly unproved: readonly { readonly function: string; readonly reason: string }[];
  readonly obligations: number;
  readonly failed: number;
  readonly vacuous: number;
  readonly undecided: number;
  readonly certified: number;
  readonly axioms: readonly { readonly name: string; readonly reason: string }[];
  readonly seconds: number;
  readonly lemmas: number;
  readonly lemmasProved: number;
  readonly unprovedLemmas: readonly { readonly lemma: string; readonly reason: string }[];
  /** Ways in which the module is not shaped like a core. */
  readonly shape: readonly string[];
  readonly solvers: readonly string[];
  /** Problems whose proof was taken from the cache, and cache entries that were not believed. */
  readonly reused: number;
  readonly rejected: readonly string[];
}

/** @param seconds how long it took */
export function summarize(report: Report, wasmSha256: string, seconds: number): Summary {
  const functions = report.verdicts.filter(({ kind }) => kind === "function");
  const lemmas = report.verdicts.filter(({ kind }) => kind === "lemma");
  const goals = report.verdicts.flatMap((verdict) => verdict.goals);
  const count = (status: string) => goals.filter((goal) => goal.status === status).length;
  const rest = functions.filter(({ status }) => status !== "proved");
  const open = lemmas.filter(({ status }) => status !== "proved");
  const reasonOf = ({ reason }: Verdict) => reason ?? "";
  const crashed = report.verdicts.filter(
    ({ status, goals }) => status === "failed" && goals.length === 0,
  ).length;
  const failed = count("failed") + crashed;
  const shape = checkShape(report.module, { imports: report.module.imports.map(({ name }) => name) });
  return {
    ok: failed + count("vacuous") + count("unknown") + shape.length + open.length === 0,
    wasmSha256,
    functions: functions.length,
    proved: functions.length - rest.length,
    unproved: rest.map((verdict) => ({ function: verdict.name, reason: reasonOf(verdict) })),
    obligations: goals.length,
    failed,
    vacuous: count("vacuous"),
    undecided: count("unknown"),
    certified: goals.filter(({ certified }) => certified).length,
    axioms: report.claims.axioms,
    seconds: Number(seconds.toFixed(1)),
    lemmas: lemmas.length,
    lemmasProved: lemmas.length - open.length,
    unprovedLemmas: open.map((verdict) => ({ lemma: verdict.name, reason: reasonOf(verdict) })),
    shape,
    solvers: report.solvers,
    reused: report.reused,
    rejected: report.rejected,
  };
}

/** What is not proved, line by line, and counts at the end. */
export function describe(report: Report, summary: Summary, colours: Palette = plain): string {
  const lines: string[] = [];
  for (const verdict of report.verdicts) {
    if (verdict.status === "proved") continue;
    const word = verdict.status === "failed" ? colours.red("failed  ") : colours.yellow("unproved");
    lines.push(`${word}  ${verdict.name}: ${verdict.reason ?? ""}`);
    for (const one of verdict.counterexamples.slice(0, SHOWN)) lines.push(one.replace(/^/gm, "    "));
  }
  if (lines.length > 0) lines.push("");
  for (const departure of summary.shape) lines.push(`${colours.red("shape")}  ${departure}`);
  for (const entry of summary.rejected) lines.push(`${colours.yellow("cache")}  ${entry}`);
  const good = (n: number, word: string) => (n === 0 ? `0 ${word}` : colours.red(`${n} ${word}`));
  lines.push(
    `${summary.proved} of ${summary.functions} functions and ${summary.lemmasProved} of ${summary.lemmas} lemmas proved`,
    `${summary.obligations} obligations, ${good(summary.failed, "failed")}, ${good(summary.vacuous, "vacuous")}, ${good(summary.undecided, "undecided")}, ${summary.certified} certified`,
    `${summary.axioms.length} axioms`,
    `${summary.seconds} s with ${summary.solvers.join(", ") || "no solver"}, ${summary.reused} proofs taken from the cache`,
    `wasm ${summary.wasmSha256}`,
    "",
  );
  return lines.join("\n");
}
