/**
 * Whether a mutant does what the original does.
 *
 * Both are run from one arbitrary state in which the contract's demands hold, with contracts for the functions that they call. What is then compared is
 * all that others could tell them apart by: where each of them calls a function, uses a primitive or comes round a loop, with which arguments and in
 * which state, and what each returns. What a call or an arbitrary iteration leaves open has the same name in both runs, and means the same
 * since all before it was the same. What a primitive leaves open is the answer to a question, named by primitive, arguments and how often
 * the same was asked before: answers to different questions do not depend on their order.
 */
import { eq } from "./build.ts";
import { type Contract, type FunctionProblem, functionProblem } from "./contract.ts";
import { Executor, type Outcome } from "./executor.ts";
import { Memory } from "./memory.ts";
import type { CallModel, LoopSpec, UnrolledLoop } from "./model.ts";
import { DecodeError, type Module } from "./module.ts";
import { type Goal, prove } from "./prover.ts";
import { copyState, isUntouched, type State } from "./state.ts";
import { type Term, TRUE, variable } from "./term.ts";
import type { CheckOptions, Claims } from "./verify.ts";

/** What a run does at one place. */
interface Step {
  readonly what: string;
  readonly args: readonly Term[];
  readonly state: State;
}

interface Run {
  readonly problem: FunctionProblem;
  readonly steps: readonly Step[];
  readonly facts: readonly Term[];
  readonly outcome: Outcome | undefined;
}

/** Whether the original, `options.module`, and the mutant do the same in every function of `contracts`, as far as the solver can tell. */
export async function areEquivalent(
  claims: Claims,
  options: CheckOptions,
  mutant: Module,
  contracts: readonly Contract[],
): Promise<boolean> {
  for (const contract of contracts) if (!(await doTheSame(claims, options, mutant, contract))) return false;
  return contracts.length > 0;
}

async function doTheSame(
  claims: Claims,
  options: CheckOptions,
  mutant: Module,
  contract: Contract,
): Promise<boolean> {
  try {
    const first = run(claims, options.module, contract);
    const second = run(claims, mutant, contract);
    const goals = compare(first, second, claims.theory.witnesses ?? []);
    if (!goals) return false;
    const hypotheses = [...first.problem.hypotheses, ...first.facts];
    const results = await prove([{ ...first.problem, hypotheses, goals }], { ...options, stopEarly: true });
    return results.every(({ status }) => status === "proved");
  } catch (error) {
    if (error instanceof DecodeError) throw error;
    return false;
  }
}

/** Runs the function of `contract`, and writes down its steps. */
function run(claims: Claims, module: Module, contract: Contract): Run {
  const problem = functionProblem(module, claims.theory, claims.contracts, contract);
  const { options, state, args } = problem.execution;
  const steps: Step[] = [];
  const called = (model: CallModel): CallModel => {
    return (call) => {
      steps.push({ what: call.callee.name, args: call.args, state: copyState(call.state) });
      return model(call);
    };
  };
  const asked = new Map<string, number>();
  const used = (model: CallModel): CallModel => {
    return (call) => {
      const question = `${call.callee.name}(${call.args.map((arg) => arg.id).join()})`;
      const named = (name: string) => `${name}@${question}#${asked.get(question) ?? 0}`;
      let isOpen = false;
      const before = copyState(call.state);
      const result = model({
        ...call,
        fresh(name, width) {
          isOpen = true;
          return variable(named(name), width);
        },
        freshMemory(name, keyWidth, valueWidth) {
          isOpen = true;
          return Memory.arbitrary(named(name), keyWidth, valueWidth);
        },
      });
      if (isOpen) asked.set(question, (asked.get(question) ?? 0) + 1);
      // What gives a function of the state, or changes it, is seen in what comes of it; of all else it counts where it happens.
      else if (result === undefined && isUntouched(before, call.state))
        steps.push({ what: call.callee.name, args: call.args, state: before });
      return result;
    };
  };
  const rounds = (name: string, loop: LoopSpec | UnrolledLoop): LoopSpec | UnrolledLoop =>
    "unroll" in loop
      ? loop
      : {
          ...loop,
          invariant: (now, entry) => {
            steps.push({ what: name, args: now.locals, state: now });
            return loop.invariant?.(now, entry) ?? {};
          },
        };
  const executor = new Executor(module, {
    ...options,
    models: mapped(options.models, (_, model) => used(model)),
    contracts: mapped(options.contracts, (_, model) => called(model)),
    loops: mapped(options.loops, rounds),
  });
  return { problem, steps, outcome: executor.run(contract.function, state, args), facts: executor.facts };
}

const mapped = <T>(all: Readonly<Record<string, T>> | undefined, change: (name: string, one: T) => T) =>
  Object.fromEntries(Object.entries(all ?? {}).map(([name, one]) => [name, change(name, one)]));

/** The goals that both runs take the same steps and end alike; nothing when that is not so at first sight. */
function compare(a: Run, b: Run, witnesses: readonly string[]): Goal[] | undefined {
  const goals: Goal[] = [];
  const same = (what: string, path: Term, x: Term, y: Term): void => {
    if (x !== y) goals.push({ name: what, path, goal: eq(x, y), reachable: false });
  };
  const sameStates = (what: string, x: State, y: State): void => {
    for (const [name, memory] of Object.entries(x.memories)) {
      const other = y.memories[name] as Memory;
      const key = variable(`any ${name}`, memory.keyWidth);
      if (other !== memory && !witnesses.includes(name))
        same(`${what}: ${name}`, x.path, memory.read(key), other.read(key));
    }
    for (const [name, ghost] of Object.entries(x.ghosts))
      if (!witnesses.includes(name)) same(`${what}: ${name}`, x.path, ghost, y.ghosts[name] as Term);
  };
  if (a.steps.length !== b.steps.length || !a.outcome !== !b.outcome) return undefined;
  for (const [n, x] of a.steps.entries()) {
    const y = b.steps[n] as Step;
    if (x.what !== y.what || x.args.length !== y.args.length) return undefined;
    const what = `step ${n}, ${x.what}`;
    same(`${what}: path`, TRUE, x.state.path, y.state.path);
    for (const [i, arg] of x.args.entries())
      same(`${what}: argument ${i}`, x.state.path, arg, y.args[i] as Term);
    sameStates(what, x.state, y.state);
  }
  if (a.outcome && b.outcome) {
    const { state, result } = a.outcome;
    same("path", TRUE, state.path, b.outcome.state.path);
    if (result && b.outcome.result) same("result", state.path, result, b.outcome.result);
    sameStates("end", state, b.outcome.state);
  }
  return goals;
}
