/**
 * Contracts: what a function is called for, written once and read twice.
 *
 * A contract is a program over the state, in the order of a manual page: what the caller owes (`require`), what changes (assignments to
 * `state`, or `havoc` where the contract leaves a choice), what holds then (`ensure`), and what can happen (`can`). Where the function
 * is called, the contract stands for it: requirements are demanded, choices are fresh variables, promises are granted. Where the
 * function itself is proved, the same program reads the other way: requirements are hypotheses, choices are what the code chose, and
 * promises are goals, with the goal that the code changed the state exactly as the contract did.
 */

import { and, eq, implies, ite, ne, or } from "./build.ts";
import type { Execution } from "./counterexample.ts";
import { Executor, type Outcome } from "./executor.ts";
import type { EntryFact } from "./instantiate.ts";
import type { LinearMemory } from "./linear.ts";
import type { Memory } from "./memory.ts";
import type { Call, CallModel, LoopSpec, UnrolledLoop } from "./model.ts";
import { type Func, functionNamed, type Module } from "./module.ts";
import { presolveFor } from "./presolve.ts";
import type { Goal, Problem } from "./prover.ts";
import type { SourceMap } from "./sourcemap.ts";
import { copyState, isUntouched, type State } from "./state.ts";
import { bv, FALSE, type Term, TRUE, variable } from "./term.ts";

/** A fact that holds at every key of a memory whenever no function is in the middle of changing it. */
export interface Invariant {
  readonly name: string;
  /** The memory at whose keys it is instantiated. */
  readonly memory: string;
  /**
   * Whether functions keep it rather than primitives: it may fail while a function is at work, so a call of a contract that is granted it
   * owes it, and so does each such function at its end.
   */
  readonly byFunctions?: boolean;
  at(state: State, key: Term): Term;
}

/** What all contracts of a core share. */
export interface Theory {
  /** An arbitrary state: each memory arbitrary under its own name. */
  start(): State;
  readonly invariants: readonly Invariant[];
  /** Facts about constants of the core, hypotheses of every problem. */
  readonly hypotheses: readonly Term[];
  /**
   * Whether an entry of a memory means anything in a state: other processors leave it alone while what is held there is held. What a
   * function leaves where this fails is not compared with its contract. Everything means something when it is omitted.
   */
  stays?(state: State, memory: string, key: Term): Term;
  /** Ghosts that mean something only within a function's own code: what it leaves in them is not compared, and a call leaves anything. */
  readonly scratch?: readonly string[];
  /** Memories and ghosts of which nothing is said but how a proof goes: two runs that differ in them alone do the same. */
  readonly witnesses?: readonly string[];
  /** Specifications of the imports. */
  readonly models: Record<string, CallModel>;
  readonly linear: LinearMemory;
}

/** A loop specification with facts that hold at every key of a memory, and with the theory's invariants at the head. */
export interface LoopContract extends LoopSpec {
  everywhere?(now: State, entry: State): Record<string, { readonly memory: string; at(key: Term): Term }>;
}

export interface Contract {
  /** The function, as the name section has it. */
  readonly function: string;
  // biome-ignore lint/suspicious/noConfusingVoidType: the contract of a function without result gives none
  spec(c: Clause): Term | void;
  /** Names of the parameters, for people; the name section has none. */
  readonly parameters?: readonly string[];
  /**
   * Canonical forms of parameters, by position: a caller owes an argument that equals its form, and the function is proved for those
   * alone. A pointer to one of many records, say, is a base with an index in the middle.
   */
  readonly forms?: Record<number, (argument: Term) => Term>;
  /** Whether the theory's hypotheses are not granted, because the function is what establishes them. */
  readonly founding?: boolean;
  /** Changes the arbitrary state that the function is proved from; its callers owe it such a state. */
  readonly given?: (state: State) => void;
  /** By number of the loop in the function, from 0. */
  readonly loops?: Record<number, LoopContract | UnrolledLoop>;
  /**
   * Ghost code: runs just before a call of the named primitive or function from this function, or from one executed as part of it. Primitives keep the invariants whoever uses them;
   * a function with ghost code is shown to keep them itself.
   */
  readonly ghost?: Record<string, (call: Call, args: readonly Term[]) => void>;
  /**
   * Uses of lemmas: runs just before a call as `ghost` does, changes nothing, shows what a lemma asks (`oblige`), and grants what it
   * gives: by `assume`, or as its result, when it is the demand itself that the lemma gives; that demand needs no further proof.
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: a use may give nothing but what it assumes
  readonly uses?: Record<string, (call: Call, args: readonly Term[]) => readonly Term[] | void>;
  /** Ghost code at the return of the body. */
  readonly atReturn?: (state: State, args: readonly Term[], result: Term | undefined) => void;
  /** Invariants that this function's caller does not grant, or that it leaves broken. */
  readonly without?: readonly string[];
  /** Functions to execute although they have a contract. */
  readonly inline?: readonly string[];
}

/** Why a function is given no proof of its own. */
export interface Unproved {
  readonly function: string;
  readonly reason: string;
}

/** Memories with at least so many stores are compared key by key: two long logs are hard to compare at an arbitrary key. */
const MANY_STORES = 8;

/** One reading of a contract: at a call, or of the function itself. */
export interface Clause {
  readonly args: readonly Term[];
  /** The state before, never changed. */
  readonly before: State;
  /** The state as the contract has changed it so far. */
  readonly state: State;
  /** Demands `fact` of the caller. */
  require(name: string, fact: Term): void;
  /** Demands `fact` of the caller at every key of the memory. */
  requireAll(name: string, memory: string, fact: (key: Term) => Term): void;
  /**
   * Demands `fact` at every key of the memory, of a caller that was not itself granted `token`: a proposition that stands for all of it, of
   * the memory as it was at the start. Used by a lemma, not key by key.
   */
  requireToken(name: string, token: Term, memory: string, fact: (key: Term) => Term): void;
  /** Promises `fact` to the caller. */
  ensure(name: string, fact: Term): void;
  /** Promises `fact`, of the state as it is now, at every key of a memory. */
  ensureAll(name: string, memory: string, fact: (key: Term, state: State) => Term): void;
  /** Uses an invariant at a key at which it would not be instantiated. */
  recall(invariant: (state: State) => Term): void;
  /** Uses an invariant, at every key of a memory, about entries at which it would not be instantiated. */
  recallAll(memory: string, invariant: (state: State, key: Term) => Term): void;
  /** States that a run in which `condition` holds exists: shown, never granted. */
  can(name: string, condition: Term): void;
  /** States that `fact` holds of the state at the return, locals included: shown, never granted. */
  show(name: string, fact: (after: State) => Term): void;
  /** The result, of `width` bits, left to the function. */
  result(width: number): Term;
  /** A value left to the function that is no result; `witness` says what the function chose, from its final state. */
  choose(name: string, width: number, witness: (after: State, result: Term | undefined) => Term): Term;
  /** Leaves the memory to the function wherever `inside` holds. */
  havoc(memory: string, inside?: (key: Term) => Term): void;
  /** The function may store ones in a memory of bits, and nothing else. */
  grow(memory: string): void;
  /** As `grow`, and where `condition` holds, 1 is stored at `key`: what the function is to do at least, where its doing more is no harm. */
  include(memory: string, key: Term, condition?: Term): void;
  /** Leaves a ghost to the function. */
  havocGhost(name: string): void;
  /** The function does not return. */
  diverges(): void;
}

/** What a memory of bits holds where something is included. */
const YES = bv(1, 1);

class CallClause implements Clause {
  readonly args: readonly Term[];
  readonly before: State;
  readonly state: State;
  private readonly call: Call;
  private readonly fresh: { memory: string; base: string }[] = [];
  private readonly owed: EntryFact[] = [];
  private readonly growing = new Set<string>();
  private readonly name: string;

  constructor(call: Call, args: readonly Term[]) {
    this.call = call;
    this.args = args;
    this.before = copyState(call.state);
    this.state = call.state;
    this.name = shortName(call.callee.name);
  }

  require(name: string, fact: Term): void {
    this.call.oblige(`${this.name} asks: ${name}`, fact);
  }

  requireAll(name: string, memory: string, fact: (key: Term) => Term): void {
    const width = (this.state.memories[memory] as Memory).keyWidth;
    this.require(name, fact(this.call.fresh(`any ${memory}`, width)));
  }

  requireToken(name: string, token: Term, memory: string, fact: (key: Term) => Term): void {
    const { baseName, keyWidth } = this.state.memories[memory] as Memory;
    const any = fact(this.call.fresh(`any ${memory}`, keyWidth));
    this.require(name, baseName === memory ? or(token, any) : any);
  }

  ensure(_name: string, fact: Term): void {
    this.call.assume(fact);
  }

  ensureAll(_name: string, memory: string, fact: (key: Term, state: State) => Term): void {
    const now = copyState(this.state);
    for (const one of this.fresh.filter((entry) => entry.memory === memory))
      this.owed.push({ memory: one.base, at: (key) => implies(now.path, fact(key, now)) });
  }

  recall(): void {}

  recallAll(): void {}

  can(): void {}

  show(): void {}

  result(width: number): Term {
    return this.call.fresh(`${this.name}`, width);
  }

  choose(name: string, width: number): Term {
    return this.call.fresh(`${this.name}: ${name}`, width);
  }

  havoc(name: string, inside: (key: Term) => Term = () => TRUE): void {
    const old = this.state.memories[name] as Memory;
    const fresh = this.call.freshMemory(name, old.keyWidth, old.valueWidth);
    if (fresh.baseName !== undefined) this.fresh.push({ memory: name, base: fresh.baseName });
    this.state.memories[name] = old.rewrite((key, value) => ite(inside(key), fresh.read(key), value));
  }

  grow(name: string): void {
    if (this.growing.has(name)) return;
    this.growing.add(name);
    const old = this.state.memories[name] as Memory;
    this.havoc(name, (at) => ne(old.read(at), YES));
  }

  include(name: string, key: Term, condition: Term = TRUE): void {
    this.grow(name);
    this.state.memories[name] = (this.state.memories[name] as Memory).store(key, YES, condition);
  }

  havocGhost(name: string): void {
    this.state.ghosts[name] = this.call.fresh(name, (this.state.ghosts[name] as Term).width);
  }

  diverges(): void {
    this.state.path = FALSE;
  }

  /** Facts that hold of what was left to the function. */
  entryFacts(invariants: readonly Invariant[]): EntryFact[] {
    const after = copyState(this.state);
    const facts = [...this.owed];
    for (const { memory, base } of this.fresh) {
      for (const invariant of invariants) {
        if (invariant.memory !== memory) continue;
        facts.push({ memory: base, at: (key) => implies(after.path, invariant.at(after, key)) });
      }
    }
    return facts;
  }
}

class ProofClause implements Clause {
  readonly args: readonly Term[];
  readonly before: State;
  readonly state: State;
  readonly hypotheses: Term[] = [];
  readonly entryFacts: EntryFact[] = [];
  readonly goals: Goal[] = [];
  diverged = false;
  private readonly included: Record<string, Term[]> = {};
  private readonly outcome: Outcome | undefined;
  private readonly path: Term;

  constructor(before: State, args: readonly Term[], outcome: Outcome | undefined) {
    this.args = args;
    this.before = before;
    this.state = copyState(before);
    this.outcome = outcome;
    this.path = outcome?.state.path ?? FALSE;
  }

  private goal(name: string, goal: Term, path: Term = this.path): void {
    this.goals.push({ name, path, goal });
  }

  require(_name: string, fact: Term): void {
    this.hypotheses.push(fact);
  }

  requireAll(_name: string, memory: string, fact: (key: Term) => Term): void {
    this.entryFacts.push({ memory, at: fact });
  }

  requireToken(_name: string, token: Term): void {
    this.hypotheses.push(token);
  }

  ensure(name: string, fact: Term): void {
    this.goal(name, fact);
  }

  ensureAll(name: string, memory: string, fact: (key: Term, state: State) => Term): void {
    const key = variable(`any ${memory}`, (this.state.memories[memory] as Memory).keyWidth);
    this.goal(name, fact(key, this.state));
  }

  recall(invariant: (state: State) => Term): void {
    this.hypotheses.push(invariant(this.before));
  }

  recallAll(memory: string, invariant: (state: State, key: Term) => Term): void {
    this.entryFacts.push({ memory, at: (key) => invariant(this.before, key) });
  }

  can(name: string, condition: Term): void {
    this.goal(`can happen: ${name}`, TRUE, and(this.path, condition));
  }

  show(name: string, fact: (after: State) => Term): void {
    if (this.outcome) this.goal(name, fact(this.outcome.state));
  }

  result(width: number): Term {
    return this.outcome?.result ?? bv(0, width);
  }

  choose(_name: string, width: number, witness: (after: State, result: Term | undefined) => Term): Term {
    return this.outcome ? witness(this.outcome.state, this.outcome.result) : bv(0, width);
  }

  havoc(name: string, inside: (key: Term) => Term = () => TRUE): void {
    const actual = this.outcome?.state.memories[name];
    const old = this.state.memories[name] as Memory;
    if (!actual) return;
    this.state.memories[name] = old.rewrite((key, value) => ite(inside(key), actual.read(key), value));
  }

  grow(name: string): void {
    if (this.included[name]) return;
    this.included[name] = [];
    const old = this.state.memories[name] as Memory;
    this.havoc(name);
    this.ensureAll(`${name} only grows`, name, (at, now) =>
      implies(eq(old.read(at), YES), eq((now.memories[name] as Memory).read(at), YES)),
    );
  }

  include(name: string, key: Term, condition: Term = TRUE): void {
    this.grow(name);
    const included = this.included[name] as Term[];
    const actual = this.outcome?.state.memories[name];
    included.push(actual ? holdsUnder(condition, eq(actual.read(key), YES)) : TRUE);
  }

  havocGhost(name: string): void {
    const actual = this.outcome?.state.ghosts[name];
    if (actual) this.state.ghosts[name] = actual;
  }

  diverges(): void {
    this.diverged = true;
  }

  /** The goals that the code did to the state what the contract did. */
  compare(returned: Term | undefined, theory: Theory): void {
    const after = this.outcome?.state;
    if (!after) return;
    for (const [name, facts] of Object.entries(this.included))
      for (let n = 0; n < facts.length; n += 8)
        this.goal(`${name} has what is stated (${n >> 3})`, and(...facts.slice(n, n + 8)));
    for (const [name, expected] of Object.entries(this.state.memories)) {
      const actual = after.memories[name] as Memory;
      if (actual === expected) continue;
      const same = (goal: string, key: Term, elsewhere: Term = TRUE) => {
        const means = theory.stays?.(after, name, key) ?? TRUE;
        const equal = eq(actual.read(key), expected.read(key));
        if (means !== FALSE && equal !== TRUE) this.goal(goal, equal, and(this.path, means, elsewhere));
      };
      const key = variable(`any ${name}`, actual.keyWidth);
      const stores = new Set([...actual.storedKeys(), ...expected.storedKeys()]);
      if (stores.size < MANY_STORES) {
        same(`${name} changes as stated`, key);
        continue;
      }
      for (const [n, stored] of [...stores].entries())
        same(`${name} changes as stated where it is stored to (${n >> 3})`, stored);
      const elsewhere = and(...[...stores].map((stored) => ne(key, stored)));
      same(`${name} changes as stated`, key, elsewhere);
    }
    for (const [name, expected] of Object.entries(this.state.ghosts)) {
      const actual = after.ghosts[name] as Term;
      if (actual !== expected && !theory.scratch?.includes(name))
        this.goal(`${name} changes as stated`, eq(actual, expected));
    }
    const result = this.outcome?.result;
    if (result && returned && result !== returned) this.goal("the result is as stated", eq(result, returned));
  }

  keep(invariants: readonly Invariant[]): void {
    const after = this.outcome?.state;
    if (!after) return;
    if (isUntouched(this.before, after)) return;
    for (const invariant of invariants) {
      this.goal(`kept: ${invariant.name}`, invariant.at(after, anyKey(invariant, after)));
    }
  }
}

/** An arbitrary key of the memory of an invariant. */
function anyKey(invariant: Invariant, state: State): Term {
  return variable(`any ${invariant.memory}`, (state.memories[invariant.memory] as Memory).keyWidth);
}

/** That `condition` implies `fact`, which what the condition says outright has made simpler. */
function holdsUnder(condition: Term, fact: Term): Term {
  return implies(condition, and(...presolveFor([condition], [fact]).formulas));
}

function shortName(name: string): string {
  return name.split("/").at(-1) ?? name;
}

/** A problem about a function, with the execution to replay when a goal fails. */
export interface FunctionProblem extends Problem {
  readonly execution: Execution;
  /** Functions whose code was executed as part of this one's. */
  readonly executed: readonly string[];
}

export interface ContractOptions {
  readonly sourceMap?: SourceMap | undefined;
  /** Milliseconds for symbolic execution. */
  readonly milliseconds?: number;
}

/** The arguments in the forms that the contract gives them. */
function inForm(contract: Contract, args: readonly Term[]): readonly Term[] {
  return args.map((argument, i) => contract.forms?.[i]?.(argument) ?? argument);
}

/** The contract as a model of calls. Facts of memories that the callee chose go to `facts`. */
function modelOf(contract: Contract, theory: Theory, facts: EntryFact[]): CallModel {
  const granted = theory.invariants.filter(({ name }) => !contract.without?.includes(name));
  const start = theory.start();
  return (call) => {
    const args = inForm(contract, call.args);
    for (const [i, argument] of args.entries())
      if (argument !== call.args[i])
        call.oblige(
          `${shortName(call.callee.name)} asks: argument ${i} has its form`,
          eq(call.args[i] as Term, argument),
        );
    for (const invariant of granted) {
      if (!invariant.byFunctions) continue;
      const key = anyKey(invariant, call.state);
      const now = invariant.at(call.state, key);
      if (now !== invariant.at(start, key)) call.oblige(`at calls: ${invariant.name}`, now);
    }
    const clause = new CallClause(call, args);
    const result = contract.spec(clause) ?? undefined;
    for (const name of theory.scratch ?? []) clause.havocGhost(name);
    facts.push(...clause.entryFacts(granted));
    return result;
  };
}

/** The loop specification for the executor; facts of memories that an iteration starts from go to `facts`. */
function loopOf(
  spec: LoopContract | UnrolledLoop,
  theory: Theory,
  facts: EntryFact[],
  haunted: boolean,
): LoopSpec | UnrolledLoop {
  if ("unroll" in spec) return spec;
  const chosen = Object.entries(spec.memories ?? {}).flatMap(([name, form]) =>
    typeof form === "function" ? [] : [name],
  );
  const scratch = Object.fromEntries((theory.scratch ?? []).map((name) => [name, "any" as const]));
  return {
    ...spec,
    ghosts: { ...scratch, ...spec.ghosts },
    atHead: (head, entry, arbitrary) => {
      const everywhere = spec.everywhere?.(head, entry) ?? {};
      for (const [name, { baseName: base }] of Object.entries(arbitrary)) {
        if (base === undefined) continue;
        const granted = [
          ...theory.invariants
            .filter(({ memory }) => memory === name)
            .map((one) => (key: Term) => one.at(head, key)),
          ...Object.values(everywhere)
            .filter(({ memory }) => memory === name)
            .map((one) => (key: Term) => one.at(key)),
        ];
        for (const fact of granted) facts.push({ memory: base, at: (key) => implies(head.path, fact(key)) });
      }
    },
    invariant: (now, entry) => {
      const anywhere = Object.entries(spec.everywhere?.(now, entry) ?? {}).map(([name, { memory, at }]) => {
        const width = (now.memories[memory] as Memory).keyWidth;
        return [name, at(variable(`any ${memory}`, width))] as const;
      });
      // Ghost code in the body might break what the head grants.
      const kept = (haunted ? theory.invariants : [])
        .filter(({ memory }) => chosen.includes(memory))
        .map((one) => {
          const width = (now.memories[one.memory] as Memory).keyWidth;
          return [`kept: ${one.name}`, one.at(now, variable(`any ${one.memory}`, width))] as const;
        });
      return { ...spec.invariant?.(now, entry), ...Object.fromEntries([...anywhere, ...kept]) };
    },
  };
}

function withGhost(model: CallModel, ghost: Contract["ghost"], args: readonly Term[]): CallModel {
  return (call) => {
    const name = call.callee.imported?.field ?? call.callee.name;
    ghost?.[name]?.(call, args);
    return model(call);
  };
}

function withUses(model: CallModel, uses: Contract["uses"], args: readonly Term[]): CallModel {
  return (call) => {
    const use = uses?.[call.callee.imported?.field ?? call.callee.name];
    if (!use) return model(call);
    const given = new Set(use(call, args) ?? []);
    const oblige = (name: string, goal: Term) => {
      if (!given.has(goal)) call.oblige(name, goal);
    };
    return model({ ...call, oblige });
  };
}

/** The parameters of a function as variables, named `function.parameter`. */
export function parameters(func: Func, names: readonly string[] = []): Term[] {
  return func.params.map((width, index) =>
    variable(`${shortName(func.name)}.${names[index] ?? func.localNames.get(index) ?? index}`, width),
  );
}

/**
 * What is to be proved of the function of `contract`.
 * @throws Error when the contract names no function of the module; ExecutionError when its code cannot be executed
 */
export function functionProblem(
  module: Module,
  theory: Theory,
  contracts: readonly Contract[],
  contract: Contract,
  options: ContractOptions = {},
): FunctionProblem {
  const func = functionNamed(module, contract.function);
  const before = theory.start();
  contract.given?.(before);
  const args = inForm(contract, parameters(func, contract.parameters));
  const facts: EntryFact[] = [];
  const executed = new Set<string>();
  const present = new Set(module.functions.map(({ name }) => name));
  const others = contracts.filter(
    (other) =>
      other.function !== contract.function &&
      !contract.inline?.includes(other.function) &&
      present.has(other.function),
  );
  const hinted = (model: CallModel) => withGhost(withUses(model, contract.uses, args), contract.ghost, args);
  const models = Object.fromEntries(
    Object.entries(theory.models).map(([name, model]) => [name, hinted(model)]),
  );
  const calls = Object.fromEntries(
    others.map((other) => [other.function, hinted(modelOf(other, theory, facts))]),
  );
  const granted = theory.invariants.filter(({ name }) => !contract.without?.includes(name));
  const atHeads: Theory = { ...theory, invariants: granted };
  const haunted = contract.ghost !== undefined;
  const loops = Object.fromEntries(
    contracts.flatMap((other) =>
      present.has(other.function)
        ? Object.entries(other.loops ?? {}).map(
            ([number, spec]) =>
              [`${other.function}#${number}`, loopOf(spec, atHeads, facts, haunted)] as const,
          )
        : [],
    ),
  );
  const execution: Execution = {
    module,
    function: contract.function,
    options: { models, contracts: calls, loops, linear: theory.linear, sourceMap: options.sourceMap },
    state: before,
    args,
  };
  const executor = new Executor(module, {
    ...execution.options,
    limits: { milliseconds: options.milliseconds ?? 60_000 },
    observe: (event) => {
      if (event.kind === "enter" && event.depth > 0) executed.add(event.function);
    },
  });
  const outcome = executor.run(func, before, args);
  const atEnd = outcome && copyState(outcome.state);
  if (outcome) contract.atReturn?.(outcome.state, args, outcome.result);
  // What ghost code does in between is not compared: all that it was granted is to be shown.
  const mayBreak = (invariant: Invariant): boolean => {
    if (contract.ghost || invariant.byFunctions) return true;
    if (!outcome || !atEnd || !contract.atReturn) return false;
    const key = anyKey(invariant, atEnd);
    return invariant.at(atEnd, key) !== invariant.at(outcome.state, key);
  };
  const clause = new ProofClause(before, args, outcome);
  const returned = contract.spec(clause) ?? undefined;
  clause.compare(returned, theory);
  clause.keep(granted.filter(mayBreak));
  if (clause.diverged && outcome)
    clause.goals.push({ name: "it does not return", path: outcome.state.path, goal: FALSE });
  return {
    name: contract.function,
    hypotheses: [...(contract.founding ? [] : theory.hypotheses), ...clause.hypotheses],
    entryFacts: [
      ...granted.map((invariant) => ({
        memory: invariant.memory,
        at: (key: Term) => invariant.at(before, key),
      })),
      ...clause.entryFacts,
      ...facts,
    ],
    goals: [
      ...executor.obligations.map((one) => ({ ...one, given: executor.facts.slice(0, one.known) })),
      ...clause.goals.map((goal) => ({ ...goal, given: executor.facts })),
    ],
    execution,
    executed: [...executed],
  };
}
