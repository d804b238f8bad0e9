/** The state of an execution, how it splits where control splits, and how states become one where control joins. */

import { and, ite, not, or } from "./build.ts";
import { Memory } from "./memory.ts";
import { FALSE, type Term, TRUE } from "./term.ts";

/** Everything that the program can change. */
export interface State {
  /** What is known to hold on every run that gets here. */
  path: Term;
  locals: Term[];
  stack: Term[];
  /** Linear memory under `linear`, and whatever memories the models keep. */
  memories: Record<string, Memory>;
  /** State of the specification: Booleans and words that only models change. */
  ghosts: Record<string, Term>;
}

/** A state at the beginning of an execution. */
export function initialState(
  memories: Record<string, Memory> = {},
  ghosts: Record<string, Term> = {},
): State {
  return { path: TRUE, locals: [], stack: [], memories: { ...memories }, ghosts: { ...ghosts } };
}

/** A state of its own, so that a model may keep what was before. */
export function copyState(state: State): State {
  return {
    path: state.path,
    locals: [...state.locals],
    stack: [...state.stack],
    memories: { ...state.memories },
    ghosts: { ...state.ghosts },
  };
}

/** Whether nothing that models change was replaced from one state to the other. */
export function isUntouched(before: State, after: State): boolean {
  return (
    Object.keys(after.memories).every((name) => after.memories[name] === before.memories[name]) &&
    Object.keys(after.ghosts).every((name) => after.ghosts[name] === before.ghosts[name])
  );
}

/** The state on the runs where `condition` holds too; none when there are none. */
export function restrict(state: State, condition: Term): State | undefined {
  state.path = and(state.path, condition);
  return state.path === FALSE ? undefined : state;
}

/** The state where `condition` holds and the state where it does not; only a symbolic condition gives both. */
export function split(state: State, condition: Term): [State | undefined, State | undefined] {
  if (condition === TRUE) return [state, undefined];
  if (condition === FALSE) return [undefined, state];
  return [restrict(copyState(state), condition), restrict(state, not(condition))];
}

/** What holds on the first path beyond what holds on both: it tells the two apart, because they exclude each other. */
function guard(a: Term, b: Term): Term {
  const facts = (path: Term) => (path.op === "and" ? path.args : [path]);
  const shared = new Set(facts(b));
  return and(...facts(a).filter((fact) => !shared.has(fact)));
}

/** One state for two that exclude each other: its values are choices between theirs. */
export function mergeTwo(a: State, b: State): State {
  const condition = guard(a.path, b.path);
  const choose = (x: Term, y: Term | undefined) => ite(condition, x, y as Term);
  if (a.stack.length !== b.stack.length) throw new Error("states of different stack heights meet");
  return {
    path: or(a.path, b.path),
    locals: a.locals.map((value, i) => choose(value, b.locals[i])),
    stack: a.stack.map((value, i) => choose(value, b.stack[i])),
    memories: mergeRecords(a.memories, b.memories, (x, y) => Memory.ite(condition, x, y)),
    ghosts: mergeRecords(a.ghosts, b.ghosts, choose),
  };
}

function mergeRecords<T>(
  a: Record<string, T>,
  b: Record<string, T>,
  choose: (x: T, y: T) => T,
): Record<string, T> {
  return Object.fromEntries(
    Object.entries(a).map(([name, value]) => {
      const other = b[name];
      if (other === undefined) throw new Error(`only one of two states that meet has ${name}`);
      return [name, value === other ? value : choose(value, other)];
    }),
  );
}
