/** What the executor gives to and takes from the logic on top of it: obligations, models of calls, loop specifications, traces. */

import type { Evaluator } from "./evaluate.ts";
import type { Executor } from "./executor.ts";
import type { LinearMemory } from "./linear.ts";
import type { Memory } from "./memory.ts";
import type { Func } from "./module.ts";
import type { SourceMap } from "./sourcemap.ts";
import type { State } from "./state.ts";
import type { Term } from "./term.ts";

/** `trap`: wasm would trap. `memory`: a demand of the linear memory. `loop`: a loop specification. `model`: a demand of a model. */
export type ObligationKind = "trap" | "memory" | "loop" | "model";

/** Something to be proved: whenever `path` holds, so does `goal`. */
export interface Obligation {
  readonly name: string;
  readonly kind: ObligationKind;
  /** The function in whose code it arose. */
  readonly function: string;
  readonly path: Term;
  readonly goal: Term;
  /** How many of the executor's facts had been granted before: a later one, such as what the call promises that demands this, proves nothing about it. */
  readonly known: number;
  /** Byte of the instruction, and its source line. */
  readonly offset: number;
  readonly where: string;
}

/** What a model sees of the call that it stands for. It may change the memories and ghosts of `state`. */
export interface Call {
  readonly executor: Executor;
  readonly callee: Func;
  readonly caller: string;
  readonly where: string;
  readonly state: State;
  readonly args: readonly Term[];
  /** Demands `goal` of the caller. All demands of one name in one problem are one question to the prover. */
  oblige(name: string, goal: Term): void;
  /** Grants `fact` from here on: an axiom about what the model returned. */
  assume(fact: Term): void;
  /** A variable that occurs nowhere else; a replay finds its value in the model of the solver. */
  fresh(name: string, width: number): Term;
  freshMemory(name: string, keyWidth: number, valueWidth: number): Memory;
}

/** Gives the result of a call (none for a function without). */
// biome-ignore lint/suspicious/noConfusingVoidType: a model of a function without result is a function without result
export type CallModel = (call: Call) => Term | void;

/** Loops whose back branch folds to a constant are unrolled without any specification; this raises or lowers the limit. */
export interface UnrolledLoop {
  readonly unroll: number;
}

/**
 * What a loop makes of a memory: anything; or what a closed form gives; or that where the form does not leave it open. What an open form is
 * given as `rest` is arbitrary at the head, and at the end what the memory is then: the form may read it, at the key that is asked for,
 * where it says nothing.
 */
export type MemoryForm =
  | "any"
  | ((now: State, entry: State) => Memory)
  | { readonly open: (now: State, entry: State, rest: Memory) => Memory };

/**
 * What holds each time control reaches the head of a loop, in terms of the state there (`now`) and the state before the loop (`entry`).
 * The executor runs the body once from an arbitrary such state; that it is one at first and again after each iteration, and that
 * `variant` decreases, become obligations. Locals that the body assigns are arbitrary at the head unless given in closed form; a memory
 * or ghost that the body changes must be listed, as `any` or by its form.
 */
export interface LoopSpec {
  /** Named facts. */
  invariant?(now: State, entry: State): Record<string, Term>;
  /** Told of the arbitrary state at the head, of which alone the specification may be assumed, and of what is arbitrary in its memories. */
  atHead?(head: State, entry: State, arbitrary: Readonly<Record<string, Memory>>): void;
  /** An unsigned word that each iteration makes smaller. */
  variant(now: State, entry: State): Term;
  readonly locals?: Record<number, (now: State, entry: State) => Term>;
  readonly ghosts?: Record<string, "any" | ((now: State, entry: State) => Term)>;
  readonly memories?: Record<string, MemoryForm>;
}

/** What the executor does, in order, for traces. */
export type TraceEvent =
  | {
      readonly kind: "enter";
      readonly function: string;
      readonly args: readonly Term[];
      readonly depth: number;
    }
  | {
      readonly kind: "call";
      readonly function: string;
      readonly args: readonly Term[];
      readonly result: Term | undefined;
      readonly where: string;
      readonly depth: number;
    }
  | {
      readonly kind: "leave";
      readonly function: string;
      readonly result: Term | undefined;
      readonly depth: number;
    }
  | { readonly kind: "obligation"; readonly obligation: Obligation; readonly depth: number };

export interface ExecutorOptions {
  /** Models of imports, by `module.field`. An import without one may not be called; a model of what is not imported is not used. */
  readonly models?: Record<string, CallModel>;
  /** Functions not executed but replaced by their (elsewhere proved) specification. */
  readonly contracts?: Record<string, CallModel>;
  /** Loop specifications by `function#n`, loops counted from 0 in the order of the function's code. */
  readonly loops?: Record<string, LoopSpec | UnrolledLoop>;
  readonly linear?: LinearMemory;
  readonly sourceMap?: SourceMap | undefined;
  /** Milliseconds, new terms and iterations of one loop after which execution is given up with an error. */
  readonly limits?: { readonly milliseconds?: number; readonly terms?: number; readonly iterations?: number };
  /** Added to the names of fresh variables. Executors whose obligations meet in one query need different tags. */
  readonly tag?: string;
  /** Replay: fresh variables get their value from here, and every loop is unrolled. */
  readonly values?: Evaluator;
  readonly observe?: (event: TraceEvent) => void;
}
