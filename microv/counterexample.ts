/**
 * Counterexamples that an engineer can read: what the inputs are, what the program does with them line by line, and what was expected
 * instead.
 *
 * The model of the solver is replayed: the same executor runs the same function on the values of the model, so the trace shows what the
 * code does, not what the solver says. A replay in which the goal does not fail means that the hypotheses are too weak (a loop
 * invariant, a contract or an entry fact that the solver was free to break elsewhere), and the counterexample says so.
 */

import { Evaluator, type Model } from "./evaluate.ts";
import { Executor } from "./executor.ts";
import type { ExecutorOptions, TraceEvent } from "./model.ts";
import type { Module } from "./module.ts";
import type { Goal } from "./prover.ts";
import type { State } from "./state.ts";
import { bv, FALSE, show, showValue, type Term, TRUE } from "./term.ts";

/** The execution that a goal is about, to be run again. */
export interface Execution {
  readonly module: Module;
  readonly function: string;
  readonly options: ExecutorOptions;
  readonly state: State;
  readonly args: readonly Term[];
}

/** A part of a goal that is false, with the values that make it so. */
export interface Mismatch {
  readonly claim: string;
  readonly expected: string;
  readonly actual: string;
}

export interface Counterexample {
  readonly goal: string;
  readonly where: string | undefined;
  /** Variables of the model, by name. */
  readonly inputs: readonly { readonly name: string; readonly value: string }[];
  /** Calls and returns of the replay, indented by depth; empty when there is nothing to run. */
  readonly trace: readonly string[];
  readonly mismatches: readonly Mismatch[];
  /** Set when the replay does not do what the model promised. */
  readonly doubt: string | undefined;
}

/** Values to show by a name of the reader's choice instead of the variables of the model. */
export type Shown = Readonly<Record<string, Term>>;

const constant = (evaluator: Evaluator) => (term: Term) => {
  const value = evaluator.value(term);
  if (term.width === 0) return value === 1n ? TRUE : FALSE;
  return bv(value, term.width);
};

/** The conjuncts of `goal` that are false, each with its two sides where it compares. */
export function mismatches(goal: Term, evaluator: Evaluator): Mismatch[] {
  if (evaluator.holds(goal)) return [];
  const text = (term: Term) => showValue(evaluator.value(term), term.width);
  if (goal.op === "and") return goal.args.flatMap((part) => mismatches(part, evaluator));
  const [a, b, c] = goal.args as [Term, Term, Term];
  if (goal.op === "eq") return [{ claim: show(goal, 3), expected: text(b), actual: text(a) }];
  if (goal.op === "ult" || goal.op === "slt") {
    return [{ claim: show(goal, 3), expected: `less than ${text(b)}`, actual: text(a) }];
  }
  if (goal.op === "ite") return mismatches(evaluator.holds(a) ? b : c, evaluator);
  if (goal.op === "not" && a.op === "and") return lastOf(a, evaluator);
  if (goal.op === "not" && (a.op === "ult" || a.op === "slt")) {
    const [x, y] = a.args as [Term, Term];
    return [{ claim: show(goal, 3), expected: `at least ${text(y)}`, actual: text(x) }];
  }
  if (goal.op === "not" && a.op === "eq") {
    return [
      { claim: show(goal, 3), expected: `not ${text(a.args[1] as Term)}`, actual: text(a.args[0] as Term) },
    ];
  }
  return [{ claim: show(goal, 3), expected: "true", actual: "false" }];
}

/** An implication is the negation of a conjunction; what it claims is usually the negated part. */
function lastOf(conjunction: Term, evaluator: Evaluator): Mismatch[] {
  const claims = conjunction.args.filter((part) => part.op === "not" && (part.args[0] as Term).op !== "and");
  const inner = claims.flatMap((part) => mismatches(part.args[0] as Term, evaluator));
  if (inner.length > 0) return inner;
  return [{ claim: `not all of ${show(conjunction, 3)}`, expected: "true", actual: "false" }];
}

/** One event as a line of the trace. */
function describe(event: TraceEvent): string {
  const list = (terms: readonly Term[]) => terms.map((term) => showValue(term.value, term.width)).join(", ");
  const result = (term: Term | undefined) => (term ? ` = ${showValue(term.value, term.width)}` : "");
  const indent = "  ".repeat(event.depth);
  const short = (name: string) => name.split("/").at(-1);
  switch (event.kind) {
    case "enter":
      return `${indent}${short(event.function)}(${list(event.args)})`;
    case "call":
      return `${indent}${short(event.function)}(${list(event.args)})${result(event.result)}   ${event.where}`;
    case "leave":
      return `${indent}return${result(event.result)}`;
    case "obligation":
      return `${indent}violated: ${event.obligation.name}   ${event.obligation.where}`;
  }
}

/** Longest trace that is kept. */
const MOST_LINES = 500;

interface Replay {
  readonly trace: string[];
  readonly violated: Set<string>;
  readonly failure: string | undefined;
}

function replay(execution: Execution, evaluator: Evaluator): Replay {
  const trace: string[] = [];
  const violated = new Set<string>();
  const value = constant(evaluator);
  const { state } = execution;
  const start: State = {
    path: TRUE,
    locals: [],
    stack: [],
    memories: Object.fromEntries(
      Object.entries(state.memories).map(([name, m]) => [name, m.underModel(evaluator)]),
    ),
    ghosts: Object.fromEntries(Object.entries(state.ghosts).map(([name, term]) => [name, value(term)])),
  };
  const observe = (event: TraceEvent): void => {
    if (event.kind === "obligation") {
      if (value(event.obligation.path) === FALSE || value(event.obligation.goal) === TRUE) return;
      violated.add(event.obligation.name);
    }
    if (trace.length < MOST_LINES) trace.push(describe(event));
  };
  try {
    const executor = new Executor(execution.module, { ...execution.options, values: evaluator, observe });
    executor.run(execution.function, start, execution.args.map(value));
    return { trace, violated, failure: undefined };
  } catch (error) {
    return { trace, violated, failure: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * The counterexample that a model gives to a goal.
 * @param execution replayed when given; its obligations are those of the failed goal's executor
 * @param shown values to show instead of all variables of the model
 */
export function explain(goal: Goal, model: Model, execution?: Execution, shown?: Shown): Counterexample {
  const evaluator = new Evaluator(model);
  const inputs = shown
    ? Object.entries(shown).map(([name, term]) => ({
        name,
        value: showValue(evaluator.value(term), term.width),
      }))
    : [...model.variables].map(([name, v]) => ({ name, value: showValue(v, 64) }));
  const result = execution && replay(execution, evaluator);
  const isObligation = "kind" in goal;
  let doubt = result?.failure && `the replay stopped: ${result.failure}`;
  if (result && isObligation && !result.violated.has(goal.name)) {
    doubt ??= "the replay does not violate it: a loop specification, a contract or an entry fact is too weak";
  }
  return {
    goal: goal.name,
    where: goal.where,
    inputs,
    trace: result?.trace ?? [],
    mismatches: mismatches(goal.goal, evaluator),
    doubt: doubt || undefined,
  };
}

/** A counterexample as text. */
export function format(counterexample: Counterexample): string {
  const { goal, where, inputs, trace, doubt } = counterexample;
  return [
    `${goal}${where ? `   ${where}` : ""}`,
    ...(inputs.length > 0 ? ["  with", ...inputs.map(({ name, value }) => `    ${name} = ${value}`)] : []),
    ...(trace.length > 0 ? ["  the core does", ...trace.map((line) => `    ${line}`)] : []),
    ...counterexample.mismatches.map((m) => `  ${m.claim}: expected ${m.expected}, actual ${m.actual}`),
    ...(doubt ? [`  note: ${doubt}`] : []),
  ].join("\n");
}
