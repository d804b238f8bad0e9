/**
 * The symbolic executor.
 *
 * It runs a function once, on terms. Where control splits, both sides run; where structured control joins again (the end of a block,
 * an `if`, a loop, a function), the states merge into one whose values are choices: there is never more than one state at a point, so
 * the work is linear in the program (forking took 16 to 100 seconds where merging takes four). On constants nothing splits, and the
 * same code is an ordinary interpreter.
 *
 * What the program must not do, or a model demands, becomes an {@link Obligation}: to be proved under the path condition that leads
 * there. The executor proves nothing itself.
 */

import { add, eq, extract, implies, ite, ne, or, sext, uge, ule, ult, zext } from "./build.ts";
import { type LinearMemory, WordMemory } from "./linear.ts";
import { Memory } from "./memory.ts";
import type {
  Call,
  CallModel,
  ExecutorOptions,
  LoopSpec,
  MemoryForm,
  Obligation,
  ObligationKind,
  UnrolledLoop,
} from "./model.ts";
import { type Func, functionNamed, type Instruction, instructions, type Module } from "./module.ts";
import { divisionTraps, NUMERIC } from "./numeric.ts";
import { findRecursion } from "./shape.ts";
import { copyState, mergeTwo, restrict, type State, split } from "./state.ts";
import { bv, FALSE, type Term, TRUE, termCount, variable } from "./term.ts";

const PAGE_BYTES = 0x10000n;

/** Execution could not go on; the message says what, in which function, and on which line. */
export class ExecutionError extends Error {
  readonly function: string;
  readonly where: string;

  constructor(what: string, f: string, where: string) {
    super(`${what} (${f}, ${where})`);
    this.name = "ExecutionError";
    this.function = f;
    this.where = where;
  }
}

/** The end of a function that returns: one state, merged from all returns, and its result. */
export interface Outcome {
  /** With the function's local variables, as they are at its end. */
  readonly state: State;
  readonly result: Term | undefined;
}

interface Label {
  /** Height of the operand stack outside the block, and how many values a branch carries. */
  readonly height: number;
  readonly arity: number;
  readonly arrivals: State[];
}

interface Frame {
  readonly func: Func;
  readonly labels: Label[];
}

/** An undecided back branch more often than this is taken for a loop that never folds. */
const UNDECIDED_ITERATIONS = 64;

/** The memory that a form gives, with `rest` where it leaves it open. */
function given(form: Exclude<MemoryForm, "any">, now: State, entry: State, rest: Memory): Memory {
  return typeof form === "function" ? form(now, entry) : form.open(now, entry, rest);
}

export class Executor {
  readonly module: Module;
  readonly obligations: Obligation[] = [];
  /** What models granted and loop specifications state of arbitrary iterations, in order: hypotheses of the obligations that come later. */
  readonly facts: Term[] = [];
  /** Demands of wasm itself that were evident, hence are not among the obligations. */
  evident = 0;
  instructions = 0;

  private readonly options: ExecutorOptions;
  private readonly models = new Map<Func, CallModel>();
  private readonly loops = new Map<Instruction, LoopSpec | UnrolledLoop>();
  private readonly linear: LinearMemory;
  private readonly position: string[] = [];
  private readonly places = new Map<Func, ReadonlyMap<Instruction, number>>();
  private readonly used = new Map<string, number>();
  private frames: Frame[] = [];
  private deadline = 0;
  private termLimit = 0;

  /** @throws Error when a contract or loop specification names nothing in the module, or the module is recursive. */
  constructor(module: Module, options: ExecutorOptions = {}) {
    this.module = module;
    this.options = options;
    this.linear = options.linear ?? new WordMemory();
    for (const [name, model] of Object.entries(options.models ?? {})) {
      const imported = module.functions.find((f) => f.imported && f.name === name);
      if (imported) this.models.set(imported, model);
    }
    for (const [name, contract] of Object.entries(options.contracts ?? {})) {
      this.models.set(functionNamed(module, name), contract);
    }
    for (const [name, spec] of Object.entries(options.loops ?? {})) {
      const [f = "", n = ""] = name.split("#");
      const loops = [...instructions(functionNamed(module, f).body)].filter((i) => i.op === "loop");
      const loop = loops[Number(n)];
      if (!loop) throw new Error(`there is no loop ${name}: ${f} has ${loops.length}`);
      this.loops.set(loop, spec);
    }
    const cycle = findRecursion(module);
    if (cycle) throw new Error(`recursion is not supported: ${cycle.map((f) => f.name).join(" calls ")}`);
  }

  /**
   * Runs a function. `state` is not changed. Gives nothing when no path returns.
   * @throws ExecutionError on a loop that neither folds nor has a specification, on an import without a model, and at the limits
   */
  run(name: string | Func, state: State, args: readonly Term[]): Outcome | undefined {
    const limits = this.options.limits ?? {};
    this.deadline = performance.now() + (limits.milliseconds ?? 60_000);
    this.termLimit = termCount() + (limits.terms ?? 1_500_000);
    const func = typeof name === "string" ? functionNamed(this.module, name) : name;
    const widths = func.params.join(", ");
    if (args.map((a) => a.width).join(", ") !== widths) {
      throw new Error(`${func.name} takes (${widths}) bits, not (${args.map((a) => a.width).join(", ")})`);
    }
    this.frames = [];
    this.position.length = 0;
    return this.invoke(func, copyState(state), args);
  }

  /** `file:line` of an instruction of the running function. */
  private where(offset: number): string {
    return this.options.sourceMap?.describe(offset, this.frames.at(-1)?.func.bytes) ?? `byte ${offset}`;
  }

  // -------------------------------------------------------------------------------------------------------------- functions

  private invoke(func: Func, state: State, args: readonly Term[]): Outcome | undefined {
    const depth = this.frames.length;
    this.options.observe?.({ kind: "enter", function: func.name, args, depth });
    state.locals = [...args, ...func.locals.map((width) => bv(0, width))];
    state.stack = [];
    const exit: Label = { height: 0, arity: func.results.length, arrivals: [] };
    const frame: Frame = { func, labels: [exit] };
    this.frames.push(frame);
    const end = this.sequence(func.body, state, frame);
    this.frames.pop();
    if (end) exit.arrivals.push(end);
    const merged = this.merge(exit.arrivals);
    if (!merged) return undefined;
    const result = merged.stack.at(-1);
    this.options.observe?.({ kind: "leave", function: func.name, result, depth });
    return { state: merged, result };
  }

  private call(instruction: Instruction, state: State, frame: Frame): State | undefined {
    const callee = this.module.functions[instruction.index] as Func;
    const args = state.stack.splice(state.stack.length - callee.params.length);
    const model = this.models.get(callee);
    this.position.push(this.place(instruction, frame));
    let after: State | undefined = state;
    if (model) {
      const result = model(this.callOf(callee, instruction, state, args, frame)) ?? undefined;
      const expected = callee.results.join();
      if ((result === undefined ? "" : String(result.width)) !== expected) {
        throw this.error(
          `the model of ${callee.name} returns ${result ? `${result.width} bits` : "nothing"}`,
          instruction,
        );
      }
      if (result) state.stack.push(result);
      const where = this.where(instruction.offset);
      const depth = this.frames.length;
      this.options.observe?.({ kind: "call", function: callee.name, args, result, where, depth });
    } else if (callee.imported) {
      throw this.error(`there is no model of the import ${callee.name}`, instruction);
    } else {
      const { locals, stack } = state;
      const outcome = this.invoke(callee, state, args);
      after = outcome?.state;
      if (after) Object.assign(after, { locals, stack });
      if (outcome?.result) stack.push(outcome.result);
    }
    this.position.pop();
    return after;
  }

  private callOf(callee: Func, instruction: Instruction, state: State, args: Term[], frame: Frame): Call {
    return {
      executor: this,
      callee,
      caller: frame.func.name,
      where: this.where(instruction.offset),
      state,
      args,
      oblige: (name, goal) => this.oblige(name, "model", goal, instruction, state),
      assume: (fact) => void this.facts.push(implies(state.path, fact)),
      fresh: (name, width) => this.fresh(name, width),
      freshMemory: (name, keyWidth, valueWidth) => this.freshMemory(name, keyWidth, valueWidth),
    };
  }

  // --------------------------------------------------------------------------------------------------------- names and demands

  /** A call or loop by its number among those of its function, which an edit of anything else does not change. */
  private place(instruction: Instruction, { func }: Frame): string {
    let places = this.places.get(func);
    if (!places) {
      const named = [...instructions(func.body)].filter(({ op }) => op === "call" || op === "loop");
      places = new Map(named.map((one, n) => [one, n]));
      this.places.set(func, places);
    }
    return `${func.name.split("/").at(-1)}+${places.get(instruction)}`;
  }

  /** Names depend only on where execution is, never on what ran before: a replay of one path meets the same names. */
  private freshName(name: string): string {
    const full = `${name}@${this.options.tag ?? ""}${this.position.join(".")}`;
    const again = this.used.get(full) ?? 0;
    this.used.set(full, again + 1);
    return again === 0 ? full : `${full}'${again}`;
  }

  private fresh(name: string, width: number): Term {
    return this.valued(variable(this.freshName(name), width));
  }

  /** A variable, or in a replay its value. */
  private valued(term: Term): Term {
    const value = this.options.values?.value(term);
    if (value === undefined) return term;
    return term.width === 0 ? (value === 1n ? TRUE : FALSE) : bv(value, term.width);
  }

  private freshMemory(name: string, keyWidth: number, valueWidth: number): Memory {
    const memory = Memory.arbitrary(this.freshName(name), keyWidth, valueWidth);
    return this.options.values ? memory.underModel(this.options.values) : memory;
  }

  private oblige(name: string, kind: ObligationKind, goal: Term, at: Instruction, state: State): void {
    if (state.path === FALSE) return;
    if (goal === TRUE && (kind === "trap" || kind === "memory")) {
      this.evident++;
      return;
    }
    const obligation: Obligation = {
      name,
      kind,
      function: this.frames.at(-1)?.func.name ?? "",
      path: state.path,
      goal,
      known: this.facts.length,
      offset: at.offset,
      where: this.where(at.offset),
    };
    this.obligations.push(obligation);
    this.options.observe?.({ kind: "obligation", obligation, depth: this.frames.length });
  }

  private error(what: string, at: Instruction): ExecutionError {
    return new ExecutionError(what, this.frames.at(-1)?.func.name ?? "", this.where(at.offset));
  }

  // ------------------------------------------------------------------------------------------------------------------- control

  /** One state for several that exclude each other; none for none. */
  private merge(states: readonly State[]): State | undefined {
    const live = states.filter((state) => state.path !== FALSE);
    let merged = live.pop();
    for (let state = live.pop(); state && merged; state = live.pop()) merged = mergeTwo(state, merged);
    return merged;
  }

  private branch(depth: number, state: State, frame: Frame): void {
    const label = frame.labels[frame.labels.length - 1 - depth] as Label;
    const carried = label.arity === 0 ? [] : state.stack.slice(-label.arity);
    state.stack = [...state.stack.slice(0, label.height), ...carried];
    label.arrivals.push(state);
  }

  /** Runs a body; gives the state that falls through its end, if one does. */
  private sequence(body: readonly Instruction[], start: State, frame: Frame): State | undefined {
    let state: State | undefined = start;
    for (const instruction of body) {
      if (!state) return undefined;
      if ((++this.instructions & 63) === 0) this.checkLimits(instruction);
      state = this.execute(instruction, state, frame);
    }
    return state;
  }

  private checkLimits(at: Instruction): void {
    if (performance.now() > this.deadline) throw this.error("execution takes too long", at);
    if (termCount() > this.termLimit) throw this.error("execution makes too many terms", at);
  }

  /** Runs the instructions of a block under a new label; branches to it arrive in the label. */
  private enter(body: readonly Instruction[], state: State, frame: Frame, label: Label): State | undefined {
    frame.labels.push(label);
    const end = this.sequence(body, state, frame);
    frame.labels.pop();
    return end;
  }

  private execute(instruction: Instruction, state: State, frame: Frame): State | undefined {
    const { stack } = state;
    switch (instruction.op) {
      case "unreachable":
        this.oblige("unreachable is not reached", "trap", FALSE, instruction, state);
        return undefined;
      case "block": {
        const label: Label = { height: stack.length, arity: instruction.results.length, arrivals: [] };
        const end = this.enter(instruction.body, state, frame, label);
        return this.merge(end ? [...label.arrivals, end] : label.arrivals);
      }
      case "if":
        return this.choose(instruction, state, frame);
      case "loop":
        return this.loop(instruction, state, frame);
      case "br":
        this.branch(instruction.index, state, frame);
        return undefined;
      case "br_if": {
        const condition = truth(stack.pop() as Term);
        const [taken, onward] = split(state, condition);
        if (taken) this.branch(instruction.index, taken, frame);
        return onward;
      }
      case "br_table":
        this.branchTable(instruction, state, frame);
        return undefined;
      case "return":
        this.branch(frame.labels.length - 1, state, frame);
        return undefined;
      case "call":
        return this.call(instruction, state, frame);
      default:
        this.compute(instruction, state);
        return state;
    }
  }

  private choose(instruction: Instruction, state: State, frame: Frame): State | undefined {
    const condition = truth(state.stack.pop() as Term);
    const label: Label = { height: state.stack.length, arity: instruction.results.length, arrivals: [] };
    const [yes, no] = split(state, condition);
    const ends: State[] = [];
    for (const [arm, body] of [
      [yes, instruction.body],
      [no, instruction.orElse ?? []],
    ] as const) {
      const end = arm && this.enter(body, arm, frame, label);
      if (end) ends.push(end);
    }
    return this.merge([...label.arrivals, ...ends]);
  }

  private branchTable(instruction: Instruction, state: State, frame: Frame): void {
    const index = state.stack.pop() as Term;
    const cases = instruction.labels.slice(0, -1);
    const fallback = instruction.labels.at(-1) as number;
    for (const depth of new Set(instruction.labels)) {
      const hits = cases.flatMap((target, i) => (target === depth ? [eq(index, bv(i, 32))] : []));
      if (depth === fallback) hits.push(uge(index, bv(cases.length, 32)));
      const taken = restrict(copyState(state), or(...hits));
      if (taken) this.branch(depth, taken, frame);
    }
  }

  // --------------------------------------------------------------------------------------------------------------------- loops

  private loop(instruction: Instruction, state: State, frame: Frame): State | undefined {
    const spec = this.loops.get(instruction);
    if (spec && !("unroll" in spec) && !this.options.values)
      return this.loopBySpec(instruction, spec, state, frame);
    const most = spec && "unroll" in spec ? spec.unroll : (this.options.limits?.iterations ?? 4096);
    const undecidedLimit = spec || this.options.values ? most : UNDECIDED_ITERATIONS;
    const exits: State[] = [];
    let undecided = 0;
    let head: State | undefined = state;
    for (let iteration = 0; head; iteration++) {
      if (iteration > most || undecided > undecidedLimit) {
        const n = [...instructions(frame.func.body)].filter((i) => i.op === "loop").indexOf(instruction);
        throw this.error(
          `loop ${frame.func.name}#${n} does not fold after ${iteration} iterations: give it a loop specification`,
          instruction,
        );
      }
      const label: Label = { height: head.stack.length, arity: 0, arrivals: [] };
      const before: Term = head.path;
      this.position.push(`#${iteration}`);
      const end = this.enter(instruction.body, head, frame, label);
      this.position.pop();
      if (end) exits.push(end);
      head = this.merge(label.arrivals);
      if (head && head.path !== before) undecided++;
    }
    return this.merge(exits);
  }

  /** What a specification is given are copies: it may keep them in functions that are called when the execution has gone on. */
  private loopBySpec(at: Instruction, spec: LoopSpec, before: State, frame: Frame): State | undefined {
    this.position.push(this.place(at, frame), "#");
    const entry = copyState(before);
    const { head, arbitrary } = this.arbitraryHead(at, spec, entry);
    this.obligeHead("at entry", at, spec, entry, entry);
    spec.atHead?.(copyState(head), entry, arbitrary);
    for (const fact of Object.values(spec.invariant?.(copyState(head), entry) ?? {})) {
      this.facts.push(implies(head.path, fact));
    }
    const label: Label = { height: head.stack.length, arity: 0, arrivals: [] };
    const start = copyState(head);
    const end = this.enter(at.body, head, frame, label);
    const back = this.merge(label.arrivals);
    if (back) {
      this.obligeHead("after an iteration", at, spec, back, entry);
      const decreases = ult(spec.variant(back, entry), spec.variant(start, entry));
      this.oblige("loop: the variant decreases", "loop", decreases, at, back);
      this.refuseUnlisted(at, spec, start, back);
    }
    this.position.length -= 2;
    return end;
  }

  /** The state at the head of an arbitrary iteration, and what is arbitrary in its memories. */
  private arbitraryHead(at: Instruction, spec: LoopSpec, entry: State) {
    const head = copyState(entry);
    const arbitrary: Record<string, Memory> = {};
    const assignments = [...instructions(at.body)].filter(
      (i) => i.op === "local.set" || i.op === "local.tee",
    );
    for (const index of new Set(assignments.map((i) => i.index))) {
      head.locals[index] = this.fresh(`local${index}`, (entry.locals[index] as Term).width);
    }
    for (const [name, form] of Object.entries(spec.ghosts ?? {})) {
      if (form === "any") head.ghosts[name] = this.fresh(name, (entry.ghosts[name] as Term).width);
    }
    for (const [name, form] of Object.entries(spec.memories ?? {})) {
      const old = entry.memories[name];
      if (!old) throw this.error(`the loop specification names an unknown memory ${name}`, at);
      if (typeof form === "function") continue;
      arbitrary[name] = this.freshMemory(name, old.keyWidth, old.valueWidth);
      if (form === "any") head.memories[name] = arbitrary[name];
    }
    for (const [index, form] of Object.entries(spec.locals ?? {}))
      head.locals[Number(index)] = form(copyState(head), entry);
    for (const [name, form] of Object.entries(spec.ghosts ?? {})) {
      if (form !== "any") head.ghosts[name] = form(copyState(head), entry);
    }
    for (const [name, form] of Object.entries(spec.memories ?? {})) {
      if (form !== "any")
        head.memories[name] = given(form, copyState(head), entry, arbitrary[name] as Memory);
    }
    return { head, arbitrary };
  }

  /** Demands that `now` is a state the specification allows at the head. */
  private obligeHead(when: string, at: Instruction, spec: LoopSpec, state: State, entry: State): void {
    const now = copyState(state);
    const demand = (what: string, goal: Term) => this.oblige(`loop: ${what} ${when}`, "loop", goal, at, now);
    for (const [name, fact] of Object.entries(spec.invariant?.(now, entry) ?? {})) demand(name, fact);
    for (const [index, form] of Object.entries(spec.locals ?? {})) {
      demand(`local ${index} is its closed form`, eq(now.locals[Number(index)] as Term, form(now, entry)));
    }
    for (const [name, form] of Object.entries(spec.ghosts ?? {})) {
      if (form !== "any")
        demand(`${name} is its closed form`, eq(now.ghosts[name] as Term, form(now, entry)));
    }
    for (const [name, form] of Object.entries(spec.memories ?? {})) {
      if (form === "any") continue;
      const memory = now.memories[name] as Memory;
      const key = this.valued(variable(`any ${name}`, memory.keyWidth));
      demand(`${name} is its closed form`, eq(memory.read(key), given(form, now, entry, memory).read(key)));
    }
  }

  private refuseUnlisted(at: Instruction, spec: LoopSpec, head: State, back: State): void {
    for (const name of Object.keys(head.memories)) {
      if (head.memories[name] !== back.memories[name] && !spec.memories?.[name]) {
        throw this.error(`the loop changes the memory ${name}, which its specification does not list`, at);
      }
    }
    for (const name of Object.keys(head.ghosts)) {
      if (head.ghosts[name] !== back.ghosts[name] && !spec.ghosts?.[name]) {
        throw this.error(`the loop changes the ghost ${name}, which its specification does not list`, at);
      }
    }
  }

  // --------------------------------------------------------------------------------------------------------------- computation

  private compute(instruction: Instruction, state: State): void {
    const { stack, locals } = state;
    const pop = () => stack.pop() as Term;
    switch (instruction.op) {
      case "nop":
      case "atomic.fence":
        return;
      case "drop":
        pop();
        return;
      case "select": {
        const condition = truth(pop());
        const no = pop();
        stack.push(ite(condition, pop(), no));
        return;
      }
      case "local.get":
        stack.push(locals[instruction.index] as Term);
        return;
      case "local.set":
        locals[instruction.index] = pop();
        return;
      case "local.tee":
        locals[instruction.index] = stack.at(-1) as Term;
        return;
      case "global.get": {
        const global = this.module.globals[instruction.index];
        if (!global || global.mutable)
          throw this.error(`global ${instruction.index} is mutable`, instruction);
        stack.push(bv(global.value, global.width));
        return;
      }
      case "i32.const":
        stack.push(bv(instruction.value, 32));
        return;
      case "i64.const":
        stack.push(bv(instruction.value, 64));
        return;
      case "memory.size":
        stack.push(this.memoryPages(instruction));
        return;
      case "memory.fill":
      case "memory.copy":
        this.bulk(instruction, state);
        return;
    }
    if (instruction.row.bytes > 0) {
      this.access(instruction, state);
      return;
    }
    const operation = NUMERIC.get(instruction.op);
    if (!operation) throw this.error(`the executor has no rule for ${instruction.op}`, instruction);
    const args = stack.splice(stack.length - instruction.row.operands.length);
    for (const { name, goal } of divisionTraps(instruction.op, args[0] as Term, args[1] as Term)) {
      this.oblige(name, "trap", goal, instruction, state);
    }
    stack.push(operation(...args));
  }

  private memoryPages(at: Instruction): Term {
    const { min, max } = this.module.memory ?? { min: 0, max: 0 };
    if (min !== max) throw this.error("the size of a memory that may grow is asked for", at);
    return bv(min, 32);
  }

  /** The effective 32-bit address, with the obligation that all bytes are in memory. `length` is in 33 bits. */
  private bounded(base: Term, displacement: number, length: Term, at: Instruction, state: State): Term {
    const size = bv(BigInt(this.module.memory?.min ?? 0) * PAGE_BYTES, 34);
    const end = add(zext(base, 34), bv(displacement, 34), zext(length, 34));
    this.oblige("linear memory is accessed in bounds", "trap", ule(end, size), at, state);
    return add(base, bv(displacement, 32));
  }

  private accessAt(address: Term, instruction: Instruction, state: State) {
    return {
      state,
      memories: state.memories,
      address,
      atomic: instruction.op.includes("atomic"),
      oblige: (name: string, goal: Term) => this.oblige(name, "memory", goal, instruction, state),
    };
  }

  private access(instruction: Instruction, state: State): void {
    const { stack } = state;
    const { row, op } = instruction;
    const [base, ...operands] = stack.splice(stack.length - row.operands.length) as [Term, ...Term[]];
    const { bytes } = row;
    const address = this.bounded(base, instruction.displacement, bv(bytes, 33), instruction, state);
    const access = this.accessAt(address, instruction, state);
    if (access.atomic && bytes > 1) {
      const low = extract(Math.log2(bytes) - 1, 0, address);
      this.oblige("atomics are aligned", "trap", eq(low, bv(0, low.width)), instruction, state);
    }
    const narrow = (value: Term) => extract(8 * bytes - 1, 0, value);
    const width = row.results === "i" ? 32 : 64;
    const [first, second] = operands.map(narrow);
    if (/\.store/.test(op)) {
      this.linear.store(access, first as Term);
      return;
    }
    const old = this.linear.load(access, bytes);
    if (op.includes("rmw")) {
      const value = op.includes("add")
        ? add(old, first as Term)
        : op.includes("cmpxchg")
          ? ite(eq(old, first as Term), second as Term, old)
          : (first as Term);
      this.linear.store(access, value);
    }
    stack.push(op.endsWith("_s") ? sext(old, width) : zext(old, width));
  }

  private bulk(instruction: Instruction, state: State): void {
    const [to, second, length] = state.stack.splice(-3) as [Term, Term, Term];
    const address = this.bounded(to, 0, length, instruction, state);
    const access = this.accessAt(address, instruction, state);
    if (instruction.op === "memory.fill") {
      this.linear.fill(access, extract(7, 0, second), length);
    } else {
      const source = this.bounded(second, 0, length, instruction, state);
      this.linear.copy(access, source, length);
    }
  }
}

/** A wasm condition as a Boolean. */
function truth(condition: Term): Term {
  return ne(condition, bv(0, condition.width));
}
